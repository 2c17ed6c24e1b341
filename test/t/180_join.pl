# Workers on other hosts: jobs are taken over libpq, each has one result, and
# none is lost whoever dies.
use strict;
use warnings;

use Dsocr;
use DsocrJoin;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=5');
my $node = new_server('join', conf => <<'END');
listen_addresses = '127.0.0.1'
dsocr.run_jobs = remote
dsocr.retry_delay = 100ms
END
plan(skip_all => 'built without libpq') unless can_join();

grant_join($node);
my $release = sql($node, q{SELECT extversion FROM pg_extension WHERE extname = 'dsocr'});
my $conninfo = conninfo($node);

# one document, one result, and the worker ends
my $job = sql($node, 'SELECT dsocr_enqueue(' . image('text=from afar') . ')');
my $worker = start_worker($node, $conninfo, '--once');
is(end_worker($worker), 0, 'ended when there was nothing left') or diag worker_log($worker);
is(sql($node, "SELECT (dsocr_wait($job, '1 s')).raw"), 'from afar', 'the result is there');
is(claims($node), '0', 'no claim is left');

# a large document goes in parts, a bad one fails for good, one that fails is tried again
$job = sql($node, q{SELECT dsocr_enqueue(convert_to('STUB:text=large' || repeat(' ', 9000000), 'UTF8'))});
my $bad = sql($node, 'SELECT dsocr_enqueue(' . image('error=1:no image') . ')');
$worker = start_worker($node, $conninfo, '--once');
is(end_worker($worker), 0, 'ended') or diag worker_log($worker);
like(sql($node, "SELECT (dsocr_wait($job, '1 s')).raw"), qr/^large/, 'more than a chunk');
is(sql($node, "SELECT state FROM dsocr.jobs WHERE id = $bad"), 'failed', 'no document fails');

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
$worker = start_worker($node, $conninfo, '--once');
is(end_worker($worker), 0, 'ended') or diag worker_log($worker);
is(sql($node, q{SELECT count(*) FROM scans WHERE body = 'row' || id AND written_by = 'owner_of_scans'}), '20', 'rows were written as their owner');

is(sql($node, q{SELECT pages, image_tokens > 0, text_tokens > 0, device_seconds BETWEEN 0.005 AND 60 FROM dsocr.usage WHERE role = 'owner_of_scans'}),
	'20|t|t|t', 'and counted for their owner');
is(sql($node, q{SELECT pages, device_seconds > 0.01 FROM dsocr.usage WHERE role = 'postgres'}), '2|t', 'as others for who queued them');

# the role can do nothing else
for my $statement ('SELECT * FROM dsocr.job_queue', 'SELECT * FROM scans', 'DELETE FROM dsocr.job_done')
{
	my ($rc, $out, $err) = $node->psql('postgres', $statement, extra_params => [ '-U', 'dsocr_remote' ]);
	like($err, qr/permission denied/, "no right to: $statement");
}
sql($node, 'CREATE ROLE nobody LOGIN');
my ($rc, $out, $err) = $node->psql('postgres', "SELECT dsocr_worker_begin(2, '$release', '', '')", extra_params => [ '-U', 'nobody' ]);
like($err, qr/permission denied/, 'who was not granted it cannot join');

# answers are hostile until checked
sql($node, 'SELECT dsocr_enqueue(' . image('text=x') . ')');
$job = sql($node, 'SELECT max(id) FROM dsocr.jobs');
for my $answer (q{''}, q{'\x00'}, q{decode(repeat('44', 100), 'hex')}, q{decode('444f4352', 'hex') || decode(repeat('ff', 60), 'hex')})
{
	($rc, $out, $err) = $node->psql('postgres',
		"SELECT dsocr_worker_begin(2, '$release', '', ''); SELECT count(*) FROM dsocr_worker_claim(5, 0); SELECT dsocr_worker_finish($job, $answer)",
		extra_params => [ '-U', 'dsocr_remote' ]);
	like($err, qr/answer is malformed/, "refused: $answer");
}
($rc, $out, $err) = $node->psql('postgres',
	"SELECT dsocr_worker_begin(2, '$release', '', ''); SELECT dsocr_worker_fetch($job, 0, 10)", extra_params => [ '-U', 'dsocr_remote' ]);
like($err, qr/not claimed by this session/, 'nothing of jobs of others');
($rc, $out, $err) = $node->psql('postgres', "SELECT dsocr_worker_begin(1, '$release', '', '')", extra_params => [ '-U', 'dsocr_remote' ]);
like($err, qr/protocol 1\), this server/, 'another protocol');
sql($node, q{ALTER DATABASE postgres SET dsocr.worker_fingerprint = 'another'});
$worker = start_worker($node, $conninfo, '--once');
is(end_worker($worker), 3, 'turned away');
like(worker_log($worker), qr/another model/, 'because of its model');
sql($node, q{ALTER DATABASE postgres RESET dsocr.worker_fingerprint});
sql($node, "SELECT dsocr_cancel($job)");

is(claims($node), '0', 'no claim is left') if wait_until(sub { claims($node) eq '0' });
unlike(log_of($node), qr/PANIC|TRAP|signal 11/, 'nothing in the log');
$node->stop;
done_testing();
