# Answers in table dsocr.cache: they survive restarts, and nobody sees them without the bytes.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('durable', cache => "'1MB'", pages => 'stub',
	conf => "dsocr.max_requests = 16\nmax_worker_processes = 16\ndsocr.runner_idle_timeout = '1s'");
my $counts = "SELECT coalesce(sum(completed) FILTER (WHERE device IS DISTINCT FROM 'pages'), 0) || ' ' || sum(cache_hits) FROM t.stats()";
sub counted
{
	my ($expected, $name) = @_;
	is(sql($node, $counts), $expected, $name);
	return sql($node, 'SELECT t.reset()');
}
sub rows { return sql($node, 'SELECT count(*) FROM dsocr.cache'); }
my $pdf = "'%PDF-1.4 STUB:pages=3'::bytea";
my $all = 'SELECT dsocr_text(' . image('text=one') . "), dsocr_text($pdf), (SELECT count(dsocr_markdown(" . image('text=many') . ' || i::text::bytea)) FROM generate_series(1, 5) i)';

sql($node, 'SELECT t.reset()');
my $answers = sql($node, $all);
counted('9 0', 'pages are read');
is(rows(), 0, 'nothing is in the table while it is off');
sql($node, 'SELECT dsocr_cache_clear()');

$node->append_conf('postgresql.conf', 'dsocr.cache_table = on');
$node->restart;
wait_for_ready($node);
sql($node, 'SELECT t.reset()');
is(sql($node, "BEGIN; $all; ROLLBACK"), $answers, 'in a transaction that is rolled back');
is(rows(), 0, 'nothing is in the table');
counted('9 0', 'pages were read');
sql($node, 'SELECT dsocr_cache_clear()');
is(sql($node, "SET default_transaction_read_only = on; $all"), $answers, 'in a read-only transaction');
is(rows(), 0, 'nothing is in the table');
counted('9 0', 'pages were read');
sql($node, 'SELECT dsocr_cache_clear()');
is(sql($node, $all), $answers, 'in one that is committed');
is(rows(), 9, 'all answers are in the table');
is(sql($node, 'SELECT string_agg(DISTINCT model || length(key), \',\') FROM dsocr.cache'), 'model-a32', 'with model and key');
is(sql($node, 'SELECT count(*) FROM dsocr.cache WHERE position(\'STUB:\'::bytea IN answer) > 0'), 0, 'and not the documents');
counted('9 0', 'pages were read');

$node->restart;
wait_for_ready($node);
sql($node, 'SELECT t.reset()');
is(sql($node, $all), $answers, 'after a restart');
counted('0 9', 'nothing is read');
is(sql($node, 'SELECT cache_entries FROM t.status()'), 9, 'answers are in memory again');
sql($node, 'SELECT dsocr_cache_clear()');
is(sql($node, "SET default_transaction_read_only = on; $all"), $answers, 'in a read-only transaction');
counted('0 9', 'nothing is read');
sql($node, 'SELECT dsocr_cache_clear()');
sql($node, 'SET dsocr.cache = off; SELECT dsocr_text(' . image('text=one') . ')');
counted('1 0', 'who does not use the cache does not use the table');

# Jobs: their runner is outside of transactions.
sub job
{
	my ($commands) = @_;
	my $job = sql($node, 'SELECT dsocr_enqueue(' . image($commands) . ')');
	return sql($node, "SELECT markdown FROM dsocr_wait($job)");
}
is(job('text=job'), 'job', 'a job');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 10 FROM dsocr.cache'), 'puts in its answer');
sql($node, 'SELECT dsocr_cache_clear(); SELECT t.reset()');
is(job('text=job'), 'job', 'another one');
counted('0 1', 'finds it');
sql($node, 'ALTER TABLE dsocr.cache RENAME COLUMN answer TO other');
my $bad = sql($node, 'SELECT dsocr_enqueue(' . image('text=bad') . ')');
ok($node->poll_query_until('postgres', "SELECT attempts = 1 AND error LIKE '%answer%' FROM dsocr.job_queue WHERE id = $bad"), 'an error in the table is the job\'s');
sql($node, 'ALTER TABLE dsocr.cache RENAME COLUMN other TO answer');
is(sql($node, "SELECT markdown FROM dsocr_wait($bad)"), 'bad', 'which is tried again');

# Two that read at the same time do not wait for each other's transactions.
my $folder = $node->basedir;
my $slow = begin_sql($node, 'BEGIN; ' . reading("until=$folder/go;text=slow") . "; SELECT pg_sleep(60)", go_on => 1);
waiting($node, 1, 'text=slow');
append_to_file("$folder/go", '');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"), 'a transaction is open');
sql($node, 'SELECT dsocr_cache_clear()');
is(sql($node, "SET statement_timeout = '20s'; " . reading("until=$folder/go;text=slow")), 'slow', 'another one reads the same');
sql($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
end_sql($slow);

# What reads is no parallel query, which could put in nothing; one that was planned before finds what is there.
my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;';
sql($node, 'CREATE TABLE scans WITH (parallel_workers = 2) AS SELECT ' . image('text=scan') . ' || i::text::bytea AS img FROM generate_series(1, 60) i; ANALYZE scans');
my $count = 'SELECT count(dsocr_text(img)) FROM scans';
my $planned = "$parallel SET dsocr.cache_table = off; PREPARE p AS $count; SET plan_cache_mode = force_generic_plan; EXPLAIN (COSTS OFF) EXECUTE p; SET dsocr.cache_table = on; EXECUTE p";
unlike(sql($node, "$parallel EXPLAIN (COSTS OFF) $count"), qr/Gather/, 'no parallel query');
like(sql($node, "$parallel EXPLAIN (COSTS OFF) SELECT count(img) FROM scans"), qr/Gather/, 'what reads nothing may be one');
my $rows = rows();
like(sql($node, $planned), qr/Gather.*\n60$/s, 'a parallel query reads');
is(rows(), $rows, 'and keeps nothing in the table');
sql($node, 'SELECT dsocr_cache_clear()');
is(sql($node, "$parallel $count"), 60, 'another one');
is(rows(), $rows + 60, 'keeps all');
sql($node, 'SELECT dsocr_cache_clear(); SELECT t.reset()');
like(sql($node, $planned), qr/Gather.*\n60$/s, 'a parallel query');
counted('0 60', 'finds all');

# Rights: nobody sees it, all use it; it is pruned by those who may; it is not dumped.
sql($node, 'CREATE ROLE alice LOGIN; SELECT dsocr_cache_clear(); SELECT t.reset()');
my (undef, $error) = try_sql($node, 'SELECT * FROM dsocr.cache', user => 'alice');
like($error, qr/permission denied/, 'others do not see it');
is(sql($node, 'SELECT dsocr_text(' . image('text=one') . ')', user => 'alice'), 'one', 'who has the bytes');
counted('0 1', 'has the answer');
(undef, $error) = try_sql($node, "SELECT dsocr_cache_prune('0 s')", user => 'alice');
like($error, qr/permission denied/, 'others do not prune');
(undef, $error) = try_sql($node, 'SET dsocr.cache_table = off', user => 'alice');
like($error, qr/permission denied/, 'nor choose');
my $dump = '';
IPC::Run::run([ 'pg_dump', '-d', $node->connstr('postgres') ], '>', \$dump);
unlike($dump, qr/dsocr\.cache/, 'not dumped');
my $before = rows();
sql($node, "INSERT INTO dsocr.cache SELECT * FROM dsocr.cache LIMIT 1; UPDATE dsocr.cache SET created = now() - interval '31 days' WHERE ctid = (SELECT min(ctid) FROM dsocr.cache)");
cmp_ok(sql($node, 'SELECT dsocr_cache_prune()'), '>=', 1, 'what is old or there twice is pruned');
is(sql($node, 'SELECT count(*) - count(DISTINCT key) FROM dsocr.cache'), 0, 'once each');
cmp_ok(sql($node, "SELECT dsocr_cache_prune('0 s')"), '>=', $before - 1, 'all of it');
is(rows(), 0, 'nothing is left');

# Another model, and a database without the extension's tables.
sql($node, $all);
$node->append_conf('postgresql.conf', 'dsocr.weights = fp32');
$node->reload;
ok($node->poll_query_until('postgres', "SELECT weights = 'fp32' AND state = 'ready' FROM t.workers() WHERE device = 'cpu'"), 'other weights');
sql($node, 'SELECT t.reset()');
sql($node, $all);
counted('9 0', 'have answers of their own');
sql($node, 'ALTER EXTENSION dsocr DROP TABLE dsocr.cache; DROP TABLE dsocr.cache; SELECT dsocr_cache_clear()');
is(sql($node, $all), $answers, 'without the table');
(undef, $error) = try_sql($node, 'SELECT dsocr_cache_prune()');
like($error, qr/table dsocr.cache does not exist.*ALTER EXTENSION/s, 'and says so when it is to be pruned');
is_at_baseline($node, 'nothing is left in use');

done_testing;
