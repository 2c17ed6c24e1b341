# Batch scans in parallel workers.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;
use DsocrBatch;

my $node = new_server('batch_parallel', conf => "max_worker_processes = 16\nmax_parallel_workers = 8\ndsocr.max_requests = 64");
my $settings = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 3; ';

sql($node, q{
CREATE TABLE scan (id int, grp int, img bytea) WITH (parallel_workers = 3);
ALTER TABLE scan ALTER img SET STORAGE plain;
INSERT INTO scan SELECT i, i % 4, convert_to('STUB:text=text ' || i || repeat(' ', 1000), 'UTF8') FROM generate_series(1, 100) i;
CREATE TABLE part (id int, img bytea) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (50);
CREATE TABLE part2 PARTITION OF part FOR VALUES FROM (50) TO (1000);
INSERT INTO part SELECT id, img FROM scan;
CREATE TABLE word AS SELECT 'text ' || i AS word FROM generate_series(1, 50) i;
ANALYZE});

my %queries = (
	'a scan'          => ['SELECT id, btrim(dsocr_text(img)) FROM scan', qr/Gather.*DsocrBatch.*Parallel Seq Scan/s],
	'a sort'          => ['SELECT id, btrim(dsocr_text(img)) AS body FROM scan ORDER BY body', qr/Gather Merge.*Sort.*DsocrBatch/s],
	'an aggregate'    => ['SELECT grp, count(dsocr_text(img)), max(btrim(dsocr_figure(img))) FROM scan GROUP BY grp', qr/Gather.*Partial.*Aggregate.*DsocrBatch/s],
	'a filter'        => ["SELECT id FROM scan WHERE dsocr_text(img) LIKE '%1%'", qr/Gather.*DsocrBatch.*Parallel Seq Scan/s],
	'a join'          => ["SELECT id, w.word, btrim(dsocr_text(img)) FROM scan s JOIN word w ON w.word = 'text ' || s.id", qr/Gather.*DsocrBatch.*Join/s],
	'partitions'      => ['SELECT id, btrim(dsocr_text(img)) FROM part', qr/Gather.*Parallel Append.*DsocrBatch/s],
	'a hash table'    => ["SELECT s.id, p.id FROM scan s JOIN (SELECT id, dsocr_text(img) AS body FROM part OFFSET 0) p ON p.body = dsocr_text(s.img) WHERE s.id < 20", qr/DsocrBatch/],
	'a parameter'     => ['PREPARE p(text) AS SELECT id, dsocr_generate(img, $1) FROM scan; SET plan_cache_mode = force_generic_plan; EXECUTE p(\'x\')', undef],
	'a limit'         => ['SELECT count(*) FROM (SELECT dsocr_text(img) FROM scan LIMIT 7) l', undef],
	'a subplan'       => ['SELECT id, btrim(dsocr_text(img)), (SELECT count(*) FROM word WHERE word < id::text) FROM scan', undef],
);
for my $name (sort keys %queries)
{
	my ($query, $plan) = @{ $queries{$name} };
	my @result = map { join "\n", sort split /\n/, (outcome($node, "$settings$query", $_))[0] } qw(off on);

	is($result[1], $result[0], "$name: equal");
	cmp_ok(length $result[1], '>', 0, "$name: not empty");
	like(sql($node, "$settings EXPLAIN (COSTS off) $query"), $plan, "$name: plan") if $plan;
}

# each process has requests of its own in flight, and EXPLAIN counts all of them
my $session = begin_sql($node, "$settings SELECT count(dsocr_text(('STUB:sleep=3;' || id)::bytea)) FROM scan");
ok(wait_until(sub { sql($node, 'SELECT count(DISTINCT pid) >= 3 AND count(*) > 24 FROM t.requests()') eq 't' }), 'many requests of several processes');
my ($rc, $out, $err) = end_sql($session);
is($out, 100, 'all read') or diag($err);
like(sql($node, "$settings EXPLAIN (ANALYZE, COSTS off) SELECT count(dsocr_text(img)) FROM scan"), qr/Images: 100\n/, 'EXPLAIN ANALYZE counts workers');
like(sql($node, "$settings EXPLAIN (ANALYZE, COSTS off) SELECT s.id, p.n FROM word w, scan s, LATERAL (SELECT count(dsocr_text(p.img)) AS n FROM part p WHERE p.id = s.id) p WHERE w.word = 'text 1' AND s.id < 6"),
	qr/Images: [1-9]/, 'and rescans');

# what ends the query gives up what its workers have begun
(undef, $err) = try_sql($node, "$settings SET statement_timeout = 700; SELECT count(dsocr_text(('STUB:sleep=60;' || id)::bytea)) FROM scan");
like($err, qr/statement timeout/, 'cancelled');
is_at_baseline($node, 'and given up');
(undef, $err) = try_sql($node, "$settings SELECT id, dsocr_text(CASE id WHEN 50 THEN 'STUB:error=1:bad page 50'::bytea ELSE img END) FROM scan");
like($err, qr/ERROR:  bad page 50/, 'an error of a worker');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
