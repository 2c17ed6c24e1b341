# Attempts, pauses, failures, documents that kill engines.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my $node = new_server('attempts', conf => "dsocr.retry_delay = 200ms\ndsocr.max_attempts = 3");
my $dir = $node->basedir;

sub job { my ($commands) = @_; return sql($node, 'SELECT dsocr_enqueue(' . image($commands) . ')'); }
sub state_of { my ($job) = @_; return sql($node, "SELECT state || ' ' || attempts || coalesce(' ' || sqlstate, '') FROM dsocr.jobs WHERE id = $job"); }
sub ended { my ($job) = @_; wait_until(sub { state_of($job) !~ /^(queued|delayed)/ }, 60); return state_of($job); }

# by the kind of error
is(ended(job('error=1:no image')), 'failed 1 22P03', 'a bad document fails at once');
is(ended(job('error=3:too long')), 'failed 1 54000', 'so does one that does not fit');
is(ended(job('error=10:a bug')), 'failed 3 XX000', 'others get all their attempts');
sql($node, q{ALTER SYSTEM SET dsocr.retry_delay = '3s'});
sql($node, 'SELECT pg_reload_conf()');
my $job = job('error=9:no disk');
ok(wait_until(sub { state_of($job) =~ /^delayed [12] 58030/ }), 'with a pause in between');
sql($node, 'ALTER SYSTEM RESET dsocr.retry_delay');
sql($node, 'SELECT pg_reload_conf()');
is(ended($job), 'failed 3 58030', 'and fail');
my ($out, $err) = try_sql($node, verbose("SELECT dsocr_wait($job)"));
like($err, qr/ERROR:  58030: .*\n.*DETAIL:  Job $job failed after 3 attempts/s, 'the wait raises the error');

# the engine's trouble is not the document's
$job = job('error=7:the device is gone');
ok(wait_until(sub { sql($node, "SELECT count(*) FROM t.requests()") eq '0' }, 10), 'looked at');
is(state_of($job), 'queued 0', 'a failing device costs no attempt');
sql($node, "SELECT dsocr_cancel($job)");

# a crash that does not come again
is(ended(job("crash-once=$dir/crashed;text=fine")), 'done 1', 'one crash is forgiven');

# a document that kills engines
my $killer = 'STUB:crash;' . 'x' x 100;
$job = sql($node, "SELECT dsocr_enqueue('$killer')");
my $other = job('sleep=1;text=bystander');
is(ended($job), 'failed 3 58000', 'it is given up');
is(ended($other), 'done 1', 'its neighbour is not');
wait_for_ready($node);
my $restarts = sql($node, 'SELECT restarts FROM t.workers()');
is(ended(sql($node, "SELECT dsocr_enqueue('$killer')")), 'failed 1 58000', 'the same bytes again are refused');
like(sql($node, 'SELECT reason FROM dsocr.failures ORDER BY id DESC LIMIT 1'), qr/^document is in quarantine/, 'with the reason');
is(sql($node, 'SELECT restarts FROM t.workers()'), $restarts, 'without another crash');
sql($node, "CREATE TABLE scan (id int PRIMARY KEY, image bytea); INSERT INTO scan VALUES (1, '$killer')");
is(ended(sql($node, q{SELECT dsocr_enqueue_row('scan', '{"id": 1}', 'image')})), 'failed 1 58000', 'wherever they come from');
is(ended(job('text=well')), 'done 1', 'others go on');
is(sql($node, 'SELECT dsocr_quarantine_clear()'), '1', 'cleared');
is(ended(sql($node, "SELECT dsocr_enqueue('$killer')")), 'failed 3 58000', 'and tried again');

# engines that all die say nothing about documents
is(sql($node, 'SELECT count(dsocr_retry(id)) FROM dsocr.failures WHERE sqlstate = $$54000$$'), '1', 'queued again');
ok(wait_until(sub { sql($node, "SELECT count(*) FROM dsocr.job_queue") eq '0' }), 'and failed again');

# several documents that kill engines, before many that do not: none of these waits for ever
sql($node, 'SELECT dsocr_enqueue(' . image('crash;number=') . " || i::text::bytea) FROM generate_series(1, 2) i");
sql($node, 'SELECT dsocr_enqueue(' . image('sleep=0.05;text=good') . ') FROM generate_series(1, 20)');
ok(wait_until(sub { sql($node, "SELECT count(*) FROM dsocr.job_queue") eq '0' }, 600), 'all ended');
is(sql($node, q{SELECT state, count(*) FROM dsocr.jobs WHERE id > (SELECT max(id) - 22 FROM dsocr.jobs) GROUP BY 1 ORDER BY 1}),
	"done|20\nfailed|2", 'as they deserve');

# documents that kill engines, and nothing else: they are to blame, as engines read a blank page in between
sql($node, 'SELECT dsocr_enqueue(' . image('crash;alone=') . " || i::text::bytea) FROM generate_series(1, 4) i");
ok(wait_until(sub { sql($node, "SELECT count(*) FROM dsocr.job_queue") eq '0' }, 600), 'all ended');
is(sql($node, q{SELECT state, attempts, count(*) FROM dsocr.jobs WHERE id > (SELECT max(id) - 4 FROM dsocr.jobs) GROUP BY 1, 2}), 'failed|3|4', 'given up');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
