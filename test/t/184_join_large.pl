# Images of 100 MB go in parts, and a session holds no more than a few of them;
# several workers and the runner of the server side by side.
use strict;
use warnings;

use Dsocr;
use DsocrJoin;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

my $mb = $ENV{DSOCR_LARGE_MB} // 100;

plan(skip_all => 'built without libpq') unless can_join();
stub_environment('latency=0');
my $node = new_server('large', conf => <<'END');
listen_addresses = '127.0.0.1'
dsocr.run_jobs = remote
dsocr.max_image_bytes = 200MB
dsocr.queue_memory = 600MB
max_wal_size = 4GB
END
grant_join($node);
my $conninfo = conninfo($node);
my $left = sub { sql($node, 'SELECT count(*) FROM dsocr.job_queue') };

# of 5 that wait a session gets those that make up its limit of 256 MB
sql($node, "SELECT count(dsocr_enqueue(convert_to('STUB:sleep=5;text=large ' || g || repeat(' ', $mb * 1024 * 1024), 'UTF8'))) FROM generate_series(1, 5) AS g");
my $worker = start_worker($node, $conninfo, '--in-flight', '64');
my $most = 0;
ok(wait_until(sub { my $n = claims($node); $most = $n if $n > $most; $left->() eq '0' }, 300), 'all are read');
is(sql($node, q{SELECT string_agg(regexp_replace(result ->> 'raw', ' +$', ''), ',' ORDER BY result ->> 'raw') FROM dsocr.job_done}), join(',', map { "large $_" } 1 .. 5), 'each is its own');
ok($most > 0 && $most <= int(256 / $mb) + 1, 'a session holds no more than its limit') or diag $most;
ok(wait_until(sub { claims($node) eq '0' }), 'no claim is left');
is(end_worker($worker, 'TERM'), 0, 'ended in order') or diag worker_log($worker);

# larger than may be
my $job = sql($node, "SELECT dsocr_enqueue(convert_to(repeat('x', 10000000), 'UTF8'))");
sql($node, 'ALTER SYSTEM SET dsocr.max_image_bytes = 1024; ALTER SYSTEM SET dsocr.max_document_bytes = 1024');
$node->reload;
$worker = start_worker($node, $conninfo);
ok(wait_until(sub { sql($node, "SELECT state FROM dsocr.jobs WHERE id = $job") eq 'failed' }), 'what is too large fails');
is(sql($node, "SELECT sqlstate FROM dsocr.failures WHERE id = $job"), '22P03', 'as on the server');
is(end_worker($worker, 'TERM'), 0, 'ended in order');
sql($node, 'ALTER SYSTEM RESET dsocr.max_image_bytes; ALTER SYSTEM RESET dsocr.max_document_bytes');
$node->reload;

# three workers and the runner, small and large
my @workers = map { start_worker($node, $conninfo, '--in-flight', '4') } 1 .. 3;
ok(wait_until(sub { worker_log($_) =~ /joined/ }), 'joined') for @workers;
sql($node, 'TRUNCATE dsocr.job_done; SELECT t.reset()');
sql($node, "SELECT count(dsocr_enqueue(convert_to('STUB:sleep=0.3;text=' || g || repeat(' ', CASE g % 50 WHEN 0 THEN 10000000 ELSE 0 END), 'UTF8'))) FROM generate_series(1, 500) AS g");
ok(wait_until(sub { claims($node) eq '12' }), 'all workers are at work');
sql($node, 'ALTER SYSTEM SET dsocr.run_jobs = on');
$node->reload;
ok(wait_until(sub { $left->() eq '0' }, 120), 'all are read');
is(sql($node, q{SELECT count(*) || ' ' || count(DISTINCT trim(result ->> 'raw')) FROM dsocr.job_done}), '500 500', 'each once');
my $read = sql($node, 'SELECT sum(completed) FROM t.stats()');
cmp_ok($read, '>', 0, 'some by the server');
for my $w (@workers)
{
	is(end_worker($w, 'TERM'), 0, 'ended in order');
	my ($n) = worker_log($w) =~ /(\d+) jobs done\n\z/;
	cmp_ok($n, '>', 0, 'some by a worker');
	$read += $n;
}
is($read, '500', 'none was read twice');
is_at_baseline($node, 'nothing is left in the queue');
unlike(log_of($node), qr/PANIC|TRAP|signal 11/, 'nothing in the log');
$node->stop;
done_testing();
