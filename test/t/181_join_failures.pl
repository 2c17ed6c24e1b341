# What goes wrong on the host of a remote worker: engines that die, documents
# that cannot be read, rows that change or are locked, signals.
use strict;
use warnings;

use Dsocr;
use DsocrJoin;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my $node = new_server('join_failures', pages => 'stub', conf => <<'END');
dsocr.run_jobs = remote
dsocr.retry_delay = 100ms
dsocr.max_attempts = 2
END
plan(skip_all => 'built without libpq') unless can_join();
my $dir = $node->basedir;
my $conninfo = $node->connstr('postgres');

sub job { my ($commands) = @_; return sql($node, 'SELECT dsocr_enqueue(' . image($commands) . ')'); }

# by the kind of error
my $worker = start_worker($node, $conninfo, '--pages', '');
is(job_end($node, job('error=1:no image')), 'failed 1 22P03', 'a bad document fails at once');
is(job_end($node, job('error=3:too long')), 'failed 1 54000', 'so does one that does not fit');
is(job_end($node, job('error=10:a bug')), 'failed 2 XX000', 'others get all their attempts');

# engines that die
is(job_end($node, job("crash-once=$dir/crashed;text=fine")), 'done 1', 'one crash is forgiven');
my @others = map { job("sleep=0.2;text=bystander$_") } 1 .. 3;
my $killer = job('crash');
is(job_end($node, $_), 'done 1', 'a neighbour is not to blame') for @others;
is(job_end($node, $killer), 'failed 2 58000', 'who kills engines is given up');
is(sql($node, 'SELECT count(*) FROM dsocr.job_quarantine'), '1', 'and in quarantine');
is(job_end($node, job('crash')), 'failed 1 58000', 'the same bytes are refused');

# a document that goes back to the queue when its row is locked comes later
sql($node, <<'END');
CREATE TABLE scans (id int PRIMARY KEY, image bytea);
SELECT dsocr_attach('scans', 'image', text_column => 'body');
INSERT INTO scans VALUES (1, convert_to('STUB:sleep=1;text=first', 'UTF8'));
END
my $session = begin_sql($node, 'BEGIN; SELECT id FROM scans FOR UPDATE; SELECT pg_sleep(3); COMMIT');
ok(wait_until(sub { sql($node, 'SELECT body FROM scans') eq 'first' }, 15), 'written when the row was free');
end_sql($session);
sql($node, q{UPDATE scans SET image = convert_to('STUB:sleep=1;text=old', 'UTF8')});
sql($node, q{SELECT pg_sleep(0.5)});
sql($node, q{UPDATE scans SET image = convert_to('STUB:text=new', 'UTF8')});
ok(wait_until(sub { sql($node, 'SELECT body FROM scans') eq 'new' }, 15), 'the newer image wins');

# a document of pages is left to those that have a page server
my $pdf = sql($node, q{SELECT dsocr_enqueue('%PDF-1.4')});
is(job_end($node, job('text=after it')), 'done 1', 'others go on');
is(job_state($node, $pdf), 'queued 0', 'and it waits');
sql($node, "SELECT dsocr_cancel($pdf)");

# the first signal lets jobs end
my $slow = job('sleep=2;text=slow');
ok(wait_until(sub { sql($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 4}) eq '1' }), 'taken');
is(end_worker($worker, 'TERM'), 0, 'ended in order') or diag slurp_file($worker->{log});
is(job_state($node, $slow), 'done 1', 'and what it had is written');

# so many and no more
my @jobs = map { job("text=$_") } 1 .. 5;
is(end_worker(start_worker($node, $conninfo, '--max', '3')), 0, 'ended after some');
is(sql($node, 'SELECT count(*) FROM dsocr.job_queue'), '2', 'the others wait') or diag sql($node, 'SELECT * FROM dsocr.jobs');

# side by side with the runner of the server: nothing is read twice
sql($node, 'SELECT t.reset()');
sql($node, q{SELECT count(dsocr_enqueue(convert_to('STUB:text=n' || g, 'UTF8'))) FROM generate_series(1, 3998) AS g});
my @workers = map { start_worker($node, $conninfo, '--in-flight', '16') } 1, 2;
sql($node, q{ALTER SYSTEM SET dsocr.run_jobs = on});
sql($node, q{SELECT pg_reload_conf()});
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.job_queue') eq '0' }, 60), 'drained');
my $read = 0;
for my $w (@workers)
{
	is(end_worker($w, 'TERM'), 0, 'ended in order');
	$read += $1 if slurp_file($w->{log}) =~ /(\d+) jobs done\n\z/;
}
my $here = sql($node, 'SELECT sum(completed) FROM t.stats()');
diag "read by workers: $read, by the runner: $here";
is($read + $here, 4000, 'each was read once');
unlike(log_of($node), qr/PANIC|TRAP|signal 11/, 'nothing in the log');
$node->stop;
done_testing();
