# Workers on other hosts: jobs are taken over libpq, each has one result, and
# none is lost whoever dies.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

stub_environment('latency=5');
my $node = new_server('join', conf => <<'END');
listen_addresses = '127.0.0.1'
dsocr.run_jobs = off
dsocr.retry_delay = 100ms
END
plan(skip_all => 'built without libpq') if `dsocr-engine help` !~ /^  join /m;

my $states = q{SELECT string_agg(state || ' ' || n, ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM dsocr.jobs GROUP BY 1) s};
my $claims = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 4};

sql($node, <<'END');
CREATE ROLE dsocr_remote LOGIN;
GRANT EXECUTE ON FUNCTION dsocr_worker_begin, dsocr_worker_claim, dsocr_worker_fetch,
	dsocr_worker_finish, dsocr_worker_release TO dsocr_remote;
END

my $n_workers = 0;

sub start_worker
{
	my (@options) = @_;
	my $log = PostgreSQL::Test::Utils::tempdir_short() . '/worker' . $n_workers++;
	my $conninfo = 'host=127.0.0.1 user=dsocr_remote dbname=postgres port=' . $node->port;
	my $worker = { log => $log };

	$worker->{run} = IPC::Run::start(
		[
			'dsocr-engine', 'join', '--engine', $ENV{DSOCR_STUB_ENGINE},
			'--model', $node->basedir . '/model-a', @options, $conninfo
		],
		'>', $log, '2>&1');
	$worker->{pid} = $worker->{run}{KIDS}[0]{PID};
	return $worker;
}

sub end_worker
{
	my ($worker, $signal) = @_;
	kill $signal, $worker->{pid} if $signal;
	$worker->{run}->finish;
	return $? >> 8;
}

sub log_is
{
	my ($worker) = @_;
	return slurp_file($worker->{log});
}

sub enqueue_many
{
	my ($n) = @_;
	sql($node, "SELECT count(dsocr_enqueue(convert_to('STUB:text=t' || g, 'UTF8'))) FROM generate_series(1, $n) AS g");
	return;
}

# one document, one result, and the worker ends
my $job = sql($node, 'SELECT dsocr_enqueue(' . image('text=from afar') . ')');
my $worker = start_worker('--once');
is(end_worker($worker), 0, 'ended when there was nothing left') or diag log_is($worker);
is(sql($node, "SELECT (dsocr_wait($job, '1 s')).raw"), 'from afar', 'the result is there');
is(sql($node, $claims), '0', 'no claim is left');

# a large document goes in parts, a bad one fails for good, one that fails is tried again
$job = sql($node, q{SELECT dsocr_enqueue(convert_to('STUB:text=large' || repeat(' ', 9000000), 'UTF8'))});
my $bad = sql($node, q{SELECT dsocr_enqueue('\x00')});
$worker = start_worker('--once');
is(end_worker($worker), 0, 'ended') or diag log_is($worker);
like(sql($node, "SELECT (dsocr_wait($job, '1 s')).raw"), qr/^large/, 'more than a chunk');
is(sql($node, "SELECT state FROM dsocr.jobs WHERE id = $bad"), 'failed', 'no document');

# an attached table, with the rights of its owner
sql($node, <<'END');
CREATE ROLE owner_of_scans;
GRANT CREATE ON SCHEMA public TO owner_of_scans;
SET ROLE owner_of_scans;
CREATE TABLE scans (id int PRIMARY KEY, image bytea, written_by text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN NEW.written_by := current_user; RETURN NEW; END$$;
CREATE TRIGGER note BEFORE UPDATE ON scans FOR EACH ROW EXECUTE FUNCTION note();
SELECT dsocr_attach('scans', 'image', text_column => 'body');
INSERT INTO scans (id, image) SELECT g, convert_to('STUB:text=row' || g, 'UTF8') FROM generate_series(1, 20) AS g;
END
$worker = start_worker('--once');
is(end_worker($worker), 0, 'ended') or diag log_is($worker);
is(sql($node, q{SELECT count(*) FROM scans WHERE body = 'row' || id AND written_by = 'owner_of_scans'}), '20', 'rows were written as their owner');

# the role can do nothing else
for my $statement ('SELECT * FROM dsocr.job_queue', 'SELECT * FROM scans', 'DELETE FROM dsocr.job_done')
{
	my ($rc, $out, $err) = $node->psql('postgres', $statement, extra_params => [ '-U', 'dsocr_remote' ]);
	like($err, qr/permission denied/, "no right to: $statement");
}
sql($node, 'CREATE ROLE nobody LOGIN');
my ($rc, $out, $err) = $node->psql('postgres', q{SELECT dsocr_worker_begin(2, '', '')}, extra_params => [ '-U', 'nobody' ]);
like($err, qr/permission denied/, 'who was not granted it cannot join');

# answers are hostile until checked
sql($node, 'SELECT dsocr_enqueue(' . image('text=x') . ')');
$job = sql($node, 'SELECT max(id) FROM dsocr.jobs');
for my $answer (q{''}, q{'\x00'}, q{decode(repeat('44', 100), 'hex')}, q{decode('444f4352', 'hex') || decode(repeat('ff', 60), 'hex')})
{
	($rc, $out, $err) = $node->psql('postgres',
		"SELECT dsocr_worker_begin(2, '', ''); SELECT count(*) FROM dsocr_worker_claim(5); SELECT dsocr_worker_finish($job, $answer)",
		extra_params => [ '-U', 'dsocr_remote' ]);
	like($err, qr/answer is malformed/, "refused: $answer");
}
($rc, $out, $err) = $node->psql('postgres',
	"SELECT dsocr_worker_begin(2, '', ''); SELECT dsocr_worker_fetch($job, 0, 10)", extra_params => [ '-U', 'dsocr_remote' ]);
like($err, qr/not claimed by this session/, 'nothing of jobs of others');
($rc, $out, $err) = $node->psql('postgres', q{SELECT dsocr_worker_begin(1, '', '')}, extra_params => [ '-U', 'dsocr_remote' ]);
like($err, qr/speaks protocol 1/, 'another release');
sql($node, q{ALTER DATABASE postgres SET dsocr.worker_fingerprint = 'another'});
$worker = start_worker('--once');
is(end_worker($worker), 1, 'turned away');
like(log_is($worker), qr/another model/, 'because of its model');
sql($node, q{ALTER DATABASE postgres RESET dsocr.worker_fingerprint});
sql($node, "SELECT dsocr_cancel($job)");

# three workers and the runner of the server; workers, sessions and engines are killed
sql($node, q{ALTER SYSTEM SET dsocr.run_jobs = on});
sql($node, q{SELECT pg_reload_conf()});
sql($node, 'CREATE TABLE writes (id int8)');
sql($node, 'TRUNCATE dsocr.job_done, dsocr.job_failed');
my @workers = map { start_worker('--in-flight', '8') } 1 .. 3;
enqueue_many(20000);
for my $round (1 .. 6)
{
	usleep(300_000);
	if ($round % 2)
	{
		end_worker($workers[ $round % 3 ], 'KILL');
		$workers[ $round % 3 ] = start_worker('--in-flight', '8');
	}
	else
	{
		sql($node, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'dsocr_remote' ORDER BY random() LIMIT 1});
	}
}
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.job_queue') eq '0' }, 60), 'drained');
is(sql($node, $states), 'done 20000', 'each has one result, none is lost');
is(sql($node, q{SELECT count(DISTINCT result ->> 'raw') FROM dsocr.job_done}), '20000', 'its own');
$node->stop('immediate');
$node->start;
enqueue_many(100);
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.job_queue') eq '0' }, 30), 'workers come back after a crash of the server');
is(end_worker($_, 'TERM'), 0, 'ended in order') || diag log_is($_) for @workers;
is(sql($node, $claims), '0', 'no claim is left') if wait_until(sub { sql($node, $claims) eq '0' });
unlike(log_of($node), qr/PANIC|TRAP|signal 11/, 'nothing in the log');
$node->stop;
done_testing();
