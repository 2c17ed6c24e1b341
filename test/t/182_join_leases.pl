# A worker that is silent, whose network is cut, whose engine hangs, or whose
# job is cancelled: others get its jobs, and what comes too late is refused.
use strict;
use warnings;

use Dsocr;
use DsocrJoin;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my $node = new_server('leases', conf => <<'END');
listen_addresses = '127.0.0.1'
dsocr.run_jobs = remote
dsocr.retry_delay = 100ms
dsocr.worker_lease = 5s
END
plan(skip_all => 'built without libpq') unless can_join();
grant_join($node);
my $conninfo = conninfo($node);

# what was written, each time it was
sql($node, <<'END');
CREATE TABLE written (id int8, raw text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN INSERT INTO public.written VALUES (NEW.id, NEW.body); RETURN NULL; END$$;
CREATE TABLE scan (id int PRIMARY KEY, image bytea, body text);
CREATE TRIGGER note AFTER UPDATE OF body ON scan FOR EACH ROW EXECUTE FUNCTION note();
SELECT dsocr_attach('scan', 'image', 'body');
END

my $n = 0;
sub scans
{
	my ($how_many, $commands) = @_;
	my $first = $n + 1;

	$n += $how_many;
	sql($node, "INSERT INTO scan SELECT g, convert_to('STUB:$commands;text=' || g, 'UTF8') FROM generate_series($first, $n) AS g");
	return;
}
sub all_written { return wait_until(sub { sql($node, 'SELECT count(*) FROM scan WHERE body IS NULL') eq '0' }, 60); }
sub once_each { return sql($node, q{SELECT count(*) || ' ' || count(DISTINCT id) FROM written WHERE raw = id::text}); }
sub has_claims { my ($k) = @_; return wait_until(sub { claims($node) eq $k }, 30); }
sub log_has { my ($worker, $what) = @_; return wait_until(sub { worker_log($worker) =~ $what }, 30); }

# a worker that is stopped: its jobs go to another, and what it has comes too late
my $slow = start_worker($node, $conninfo);
scans(5, 'sleep=1');
ok(has_claims(5), 'claimed');
kill 'STOP', $slow->{pid};
my $other = start_worker($node, $conninfo);
ok(all_written(), 'another worker has done them');
kill 'CONT', $slow->{pid};
ok(log_has($slow, qr/lost the database with 5 jobs: .*(idle-session timeout|closed the connection|ended)/), 'the stopped one has lost them')
  or diag worker_log($slow);
ok(wait_until(sub { (() = worker_log($slow) =~ /joined the database/g) == 2 }), 'and joins again');
is(end_worker($other, 'TERM'), 0, 'the other ends');
scans(1, 'sleep=0');
ok(all_written(), 'and the first works on');
is(once_each(), '6 6', 'each was written once');
is(end_worker($slow, 'TERM'), 0, 'ended in order');

# a worker with a long job and nothing else to say keeps it
$slow = start_worker($node, $conninfo);
scans(1, 'sleep=12');
ok(all_written(), 'longer than the lease');
unlike(worker_log($slow), qr/lost the database/, 'but it kept it');
end_worker($slow, 'TERM');

# the network goes silent, and nobody closes anything
my $proxy = start_proxy($node);
my $far = start_worker($node, conninfo($node, port => $proxy->{port}));
scans(5, 'sleep=3');
ok(has_claims(5), 'claimed from afar');
cut_proxy($proxy);
$other = start_worker($node, $conninfo);
ok(all_written(), 'another worker has done them');
ok(log_has($far, qr/lost the database with \d+ jobs: the server has been silent for 5 s/), 'the far one gave the server up')
  or diag worker_log($far);
is(end_worker($other, 'TERM'), 0, 'the other ends');
mend_proxy($proxy);
scans(3, 'sleep=0');
ok(all_written(), 'the far one is back');
is(once_each(), "$n $n", 'each was written once');

# one of the ends is closed, in the middle of a job
scans(3, 'sleep=2');
ok(has_claims(3), 'claimed');
end_proxy($proxy);
ok(log_has($far, qr/lost the database with 3 jobs/), 'noticed');
is(end_worker($far, 'INT'), 0, 'a worker without a database ends');
$other = start_worker($node, $conninfo);
ok(all_written(), 'another did them');

# kill -9, and a restart of the server under a worker
scans(4, 'sleep=2');
ok(has_claims(4), 'claimed');
end_worker($other, 'KILL');
ok(has_claims(0), 'free at once');
$other = start_worker($node, $conninfo);
ok(has_claims(4), 'claimed again');
$node->restart;
ok(all_written(), 'written after a restart of the server');
is(once_each(), "$n $n", 'each once');

# a job that is cancelled is taken out of the engine
my $job = sql($node, 'SELECT dsocr_enqueue(' . image('sleep=600;text=never') . ')');
ok(has_claims(1), 'claimed');
sql($node, "SELECT dsocr_cancel($job)");
ok(has_claims(0), 'not any more');
scans(2, 'sleep=0');
ok(all_written(), 'and the worker goes on');

# an engine that hangs is replaced, and its document is to blame
is(end_worker($other, 'TERM'), 0, 'ended');
$other = start_worker($node, $conninfo, '--engine-timeout', '1');
sql($node, 'ALTER SYSTEM SET dsocr.max_attempts = 1');
$node->reload;
$job = sql($node, 'SELECT dsocr_enqueue(' . image('hang') . ')');
ok(wait_until(sub { sql($node, "SELECT state FROM dsocr.jobs WHERE id = $job") eq 'failed' }, 60), 'given up');
like(worker_log($other), qr/was silent for too long/, 'the engine was replaced');
scans(1, 'sleep=0');
ok(all_written(), 'and works');
is(end_worker($other, 'TERM'), 0, 'ended in order');

is(once_each(), "$n $n", 'each was written once in all');
unlike(log_of($node), qr/PANIC|TRAP|signal 11/, 'nothing in the log');
$node->stop;
done_testing();
