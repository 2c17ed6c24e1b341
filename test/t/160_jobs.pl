# Jobs run after the commit that queued them, and only then.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my $node = new_server('jobs', conf => "max_prepared_transactions = 5\ndsocr.runner_idle_timeout = 1s");
my $states = q{SELECT string_agg(state || ' ' || n, ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM dsocr.jobs GROUP BY 1) s};
my $drained = sub { sql($node, "SELECT count(*) FROM dsocr.job_queue") eq '0' };

sub enqueue { my ($commands, @more) = @_; return 'dsocr_enqueue(' . join(', ', image($commands), @more) . ')'; }

# nothing runs where nothing was ever queued
my $runners = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dsocr job runner'};
is(sql($node, $runners), '0', 'no process without jobs');

# rolled back, in a savepoint, prepared
sql($node, 'BEGIN; SELECT ' . enqueue('text=a') . '; ROLLBACK');
sql($node, 'BEGIN; SAVEPOINT s; SELECT ' . enqueue('text=b') . '; ROLLBACK TO s; SELECT ' . enqueue('text=c') . '; COMMIT');
ok(wait_until($drained), 'drained');
is(sql($node, $states), 'done 1', 'what was rolled back was not queued');
sql($node, 'BEGIN; SELECT ' . enqueue('text=d') . "; PREPARE TRANSACTION 'one'");
sql($node, 'BEGIN; SELECT ' . enqueue('text=e') . "; PREPARE TRANSACTION 'two'");
is(sql($node, $states), 'done 1', 'prepared is not committed');
sql($node, "ROLLBACK PREPARED 'two'");
sql($node, "COMMIT PREPARED 'one'");
ok(wait_until(sub { sql($node, $states) eq 'done 2' }), 'a prepared job runs');

# one after the other, higher priorities first
sql($node, "ALTER SYSTEM SET dsocr.run_jobs = off");
sql($node, 'SELECT pg_reload_conf()');
ok(wait_until(sub { sql($node, $runners) eq '0' }), 'switched off');
sql($node, 'SELECT ' . enqueue("text=p$_", "priority => $_")) for (1, 9, 5);
my $first = sql($node, 'SELECT ' . enqueue('text=p9', 'priority => 9'));
sql($node, "ALTER SYSTEM RESET dsocr.run_jobs");
sql($node, 'SELECT pg_reload_conf()');
is(sql($node, "SELECT (dsocr_wait($first, '30 s')).raw"), 'p9', 'waited for');
ok(wait_until($drained), 'drained');

# notified, with the number of the job
my ($stdout, $stderr);
my $job = sql($node, 'SELECT ' . enqueue('sleep=1;text=x'));
$node->psql('postgres', "LISTEN dsocr_done; SELECT pg_sleep(2); SELECT 1", stdout => \$stdout, stderr => \$stderr);
like($stdout, qr/Asynchronous notification "dsocr_done" with payload "$job"/, 'notified');

# cancelled while it runs: the engine stops, nothing is written
$job = sql($node, 'SELECT ' . enqueue('sleep=60;text=x'));
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM t.requests() WHERE state = 'running'");
is(sql($node, "SELECT dsocr_cancel($job)"), 't', 'cancelled');
ok(wait_until(sub { sql($node, "SELECT count(*) FROM t.requests()") eq '0' }, 10), 'the engine let go');
is(sql($node, "SELECT state FROM dsocr.jobs WHERE id = $job"), 'cancelled', 'and it stays so');

# the process ends when there is nothing left, and comes again
ok(wait_until(sub { sql($node, $runners) eq '0' }, 15), 'the runner ended');
$job = sql($node, 'SELECT ' . enqueue('text=again'));
is(sql($node, "SELECT (dsocr_wait($job, '30 s')).raw"), 'again', 'and came again');

# who ends it does no harm
$job = sql($node, 'SELECT ' . enqueue('sleep=2;text=survives'));
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM t.requests() WHERE state = 'running'");
sql($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dsocr job runner'");
is(sql($node, "SELECT (dsocr_wait($job, '30 s')).raw"), 'survives', 'a terminated runner is replaced');

# ended jobs are kept for a while only
sql($node, "ALTER SYSTEM SET dsocr.keep_jobs = 0");
sql($node, 'SELECT pg_reload_conf()');
$job = sql($node, 'SELECT ' . enqueue('text=short'));
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.job_done') eq '0' && $drained->() }, 30), 'old ones are deleted');
is_at_baseline($node, 'nothing is left in the queue');
unlike(log_of($node), qr/PANIC|TRAP|signal 11|ERROR:  (?!canceling)/, 'nothing in the log');
$node->stop;
done_testing();
