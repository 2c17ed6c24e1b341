# Where batch scans stand in plans, and which calls are made.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;
use DsocrBatch;

my $node = new_server('batch_plans');
create_scans($node);

# The plan has so many batch scans, and below the last one stands a node.
sub stands_on
{
	my ($query, $n, $below, $settings) = @_;
	my $plan = plan_of($node, $query, $settings);
	my @scans = $plan =~ /Custom Scan \(DsocrBatch\)/g;

	is(scalar @scans, $n, "$query: batch scans") or diag($plan);
	like($plan, qr/.*DsocrBatch.*?-> +(?:Parallel )?$below/s, "$query: above $below") if $n;
	return $plan;
}

my $plan = stands_on('SELECT id, dsocr_text(img) FROM scan', 1, 'Seq Scan');
like($plan, qr/^Custom Scan \(DsocrBatch\)\n  Calls: dsocr_text\(img\)\n  ->  Seq Scan on scan$/, 'the plan');
$plan = stands_on("SELECT dsocr_text(img), dsocr_text(img, 'tiny') FROM scan WHERE dsocr_text(img) > '' AND grp = 1", 2, 'Seq Scan');
like($plan, qr/Calls: dsocr_text\(img, 'tiny'.*Filter: \(dsocr_text.*Calls: dsocr_text\(img\).*Filter: \(grp = 1\)/s,
	'a filter in the order of plain evaluation, and its call only once');
stands_on('SELECT dsocr_text(s.img) FROM scan s JOIN word w ON w.word = s.note', 1, 'Hash Join');
stands_on("SELECT s.id FROM scan s JOIN scan t USING (id) WHERE dsocr_text(s.img) = 'x'", 1, 'Seq Scan');
stands_on('SELECT dsocr_text(img) FROM scan ORDER BY note', 1, 'Seq Scan');
stands_on('SELECT dsocr_text(img) FROM scan ORDER BY note LIMIT 3', 1, 'Sort');
stands_on('SELECT count(dsocr_text(img)) FROM scan', 1, 'Seq Scan');
stands_on('SELECT grp, string_agg(dsocr_text(img), note ORDER BY id) FROM scan GROUP BY grp', 1, 'Sort');
stands_on('SELECT dsocr_text(img) FROM scan GROUP BY img', 1, 'HashAggregate');
stands_on('SELECT dsocr_text(img), rank() OVER (ORDER BY note) FROM scan', 1, 'WindowAgg');
stands_on('SELECT dsocr_text(img) FROM part', 2, 'Seq Scan');
stands_on('SELECT unnest(string_to_array(dsocr_text(img), NULL)) FROM scan', 1, 'Seq Scan');
stands_on('CREATE TABLE x AS SELECT dsocr_text(img) FROM scan', 1, 'Seq Scan');
stands_on('UPDATE scan SET note = dsocr_text(img)', 1, 'Seq Scan');
stands_on('INSERT INTO word SELECT dsocr_text(img) FROM scan', 1, 'Seq Scan');

# one row, no row to come, or none that plain evaluation would reach for certain
stands_on(q{SELECT dsocr_text('STUB:text=a')}, 0);
stands_on('SELECT CASE WHEN grp = 1 THEN dsocr_text(img) END FROM scan', 0);
stands_on('SELECT COALESCE(note, dsocr_text(img)) FROM scan', 0);
stands_on("SELECT id FROM scan WHERE grp = 1 OR dsocr_text(img) = 'x'", 0);
stands_on('SELECT dsocr_text(same(img)) FROM scan', 0);
stands_on('SELECT count(dsocr_text(img)) FILTER (WHERE grp = 1) FROM scan', 0);
stands_on('SELECT lag(dsocr_text(img)) OVER () FROM scan', 0);
stands_on('INSERT INTO word VALUES (1) RETURNING dsocr_text(word::bytea)', 0);
stands_on('SELECT b.content FROM scan, dsocr_blocks(img) b', 0);
stands_on('SELECT dsocr_text(img) FROM scan', 0, undef, 'SET dsocr.batch_scan = off');

# functions of other names that run the same code, and some that do not
sql($node, q{
CREATE FUNCTION mine(d bytea, m dsocr_mode = NULL, p int4range = NULL, t int = NULL, i int = NULL, w text = NULL)
	RETURNS text LANGUAGE c AS 'dsocr', 'dsocr_text';
CREATE FUNCTION definer(d bytea, m dsocr_mode = NULL, p int4range = NULL, t int = NULL, i int = NULL, w text = NULL)
	RETURNS text LANGUAGE c SECURITY DEFINER AS 'dsocr', 'dsocr_text';
CREATE FUNCTION settings(d bytea, m dsocr_mode = NULL, p int4range = NULL, t int = NULL, i int = NULL, w text = NULL)
	RETURNS text LANGUAGE c SET dsocr.mode = 'tiny' AS 'dsocr', 'dsocr_text';
CREATE FUNCTION dsocr_own(d bytea) RETURNS text LANGUAGE sql STABLE AS 'SELECT dsocr_text(d) || 1'});
stands_on('SELECT mine(img) FROM scan', 1, 'Seq Scan');
stands_on('SELECT dsocr_own(img) FROM scan', 1, 'Seq Scan');
stands_on('SELECT definer(img), settings(img) FROM scan', 0);
like(sql($node, 'BEGIN; ALTER FUNCTION mine SECURITY DEFINER; EXPLAIN (COSTS off) SELECT mine(img) FROM scan; ROLLBACK'),
	qr/^Seq Scan/, 'a function that was changed');

# calls: as many as plain evaluation makes, and equal ones once
sub makes
{
	my ($query, $n) = @_;
	my ($made) = calls_made($node, $query);

	return is($made, $n, "$query: calls");
}
makes('SELECT dsocr_text(img) FROM scan', 10);
makes('SELECT dsocr_text(img), length(dsocr_text(img)), dsocr_text(img, mode => NULL) FROM scan', 10);
makes('SELECT dsocr_text(img), dsocr_figure(img) FROM scan', 20);
makes("SELECT dsocr_text(img) FROM scan WHERE dsocr_text(img) LIKE '%1%'", 10);
makes("SELECT dsocr_figure(img) FROM scan WHERE dsocr_text(img) = 'text 1'", 11);
makes("SELECT id FROM scan WHERE dsocr_text(img) = 'text 1' AND dsocr_figure(img) = 'text 1'", 11);
makes("SELECT id FROM scan WHERE dsocr_text(img) = 'text 1' AND id < 4", 3);
makes("SELECT CASE WHEN dsocr_text(img) = 'text 1' THEN dsocr_figure(img) END FROM scan", 11);
makes('SELECT COALESCE(dsocr_text(img), dsocr_figure(img)) FROM scan', 10);
makes("SELECT dsocr_text(img) = 'text 1' AND dsocr_figure(img) = 'x' FROM scan", 11);
makes('SELECT dsocr_text(s.img) FROM scan s JOIN scan t ON s.id = t.id + 10', 2);

# EXPLAIN ANALYZE tells what it took
$plan = sql($node, "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT dsocr_text(img) FROM scan WHERE dsocr_text(img) > 'text 2'");
like($plan, qr/Rows Removed by Filter: 6\n.*Images: 10\n.*Cache Hits: 0\n.*Image Tokens: 2730\n.*Text Tokens: 20\n.*Average Batch: \d/s,
	'EXPLAIN ANALYZE') or diag($plan);
my $json = sql($node, 'EXPLAIN (ANALYZE, FORMAT json) SELECT dsocr_text(img) FROM scan');
like($json, qr/"Custom Plan Provider": "DsocrBatch".*"Calls": \["dsocr_text\(img\)"\].*"Images": 10.*"Waiting Time": \d+\.\d+.*"Average Batch": \d/s, 'as JSON');
like(sql($node, 'EXPLAIN (VERBOSE, COSTS off) SELECT id + 1, dsocr_text(img) FROM scan'),
	qr/Output: \(id \+ 1\), dsocr_text\(img.*Output: id, img/s, 'EXPLAIN VERBOSE');
$node->stop;
done_testing();
