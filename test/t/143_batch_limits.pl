# No more is read ahead than will be asked for, nor than settings allow.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;
use DsocrBatch;

my $node = new_server('batch_limits', conf => "dsocr.max_requests = 64");
sql($node, q{CREATE TABLE page AS SELECT i AS id, convert_to('STUB:text=text ' || i, 'UTF8') AS img FROM generate_series(1, 200) i;
	CREATE TABLE slow AS SELECT i AS id, 'STUB:sleep=60'::bytea AS img FROM generate_series(1, 200) i;
	ANALYZE});

# Requests that a query made: between two numbers.
sub made
{
	my ($name, $query, $least, $most) = @_;
	my ($made, $out, $err) = calls_made($node, $query);

	is($err, '', "$name: works");
	cmp_ok($made, '>=', $least, "$name: at least $least calls");
	return cmp_ok($made, '<=', $most, "$name: at most $most calls");
}

made('limit', 'SELECT dsocr_text(img) FROM page LIMIT 3', 3, 3);
made('limit and offset', 'SELECT dsocr_text(img) FROM page LIMIT 3 OFFSET 2', 5, 5);
made('limit behind a sort', 'SELECT dsocr_text(img) FROM page ORDER BY id DESC LIMIT 3', 3, 3);
made('limit of two', 'SELECT dsocr_text(a), dsocr_figure(a) FROM (SELECT img AS a FROM page) p LIMIT 2', 4, 4);
made('limit of a union', 'SELECT dsocr_text(img) FROM page UNION ALL SELECT dsocr_text(img) FROM page LIMIT 2', 2, 2);
made('limit as a parameter', 'PREPARE p(int) AS SELECT dsocr_text(img) FROM page LIMIT $1; SET plan_cache_mode = force_generic_plan; EXECUTE p(4)', 4, 4);
made('limit of all', 'SELECT dsocr_text(img) FROM page LIMIT NULL', 200, 200);
made('limit and filter', "SELECT id FROM page WHERE dsocr_text(img) LIKE '%5' LIMIT 2", 15, 60);
made('rows behind the limit', "SELECT id FROM page WHERE dsocr_text(img) = 'text 1' LIMIT 1", 1, 3);
made('exists', "SELECT EXISTS (SELECT FROM page WHERE dsocr_text(img) = 'text 2')", 2, 20);
made('order by the text', 'SELECT id FROM page ORDER BY dsocr_text(img) LIMIT 1', 200, 200);
made('locked rows', 'BEGIN; SELECT dsocr_text(img) FROM page LIMIT 3 FOR UPDATE SKIP LOCKED; ROLLBACK', 3, 3);

# with others holding locks more rows are needed than the limit says
my $holder = begin_sql($node, 'BEGIN; SELECT id FROM page WHERE id < 6 FOR UPDATE; SELECT pg_sleep(60)');
wait_until(sub { sql($node, 'SELECT count(*) FROM (SELECT id FROM page WHERE id < 6 FOR UPDATE SKIP LOCKED) l') == 0 });
is(sql($node, 'SELECT id, dsocr_text(img) FROM page LIMIT 2 FOR UPDATE SKIP LOCKED'), "6|text 6\n7|text 7", 'locked rows are skipped');
sql($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()");
end_sql($holder);

# How many are in flight when the query waits.
sub in_flight
{
	my ($name, $settings, $query, $expected) = @_;
	my $session = begin_sql($node, "$settings; $query");
	my $count = "SELECT count(*) FROM t.requests()";

	ok(wait_until(sub { sql($node, $count) == $expected }, 10), "$name: $expected in flight")
	  or diag(sql($node, $count));
	sql($node, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%FROM slow%' AND pid <> pg_backend_pid()});
	my ($rc, $out, $err) = end_sql($session);
	like($err, qr/canceling statement due to user request/, "$name: cancelled");
	return is_at_baseline($node, "$name: everything is given up");
}

in_flight('sorted', '', 'SELECT dsocr_text(img) AS t FROM slow ORDER BY t', 32);
in_flight('not known', '', 'SELECT dsocr_text(img) FROM slow', 8);
in_flight('prefetch', 'SET dsocr.prefetch = 5', 'SELECT count(dsocr_text(img)) FROM slow', 5);
in_flight('two calls', 'SET dsocr.prefetch = 5', 'SELECT count(dsocr_text(img)), count(dsocr_figure(img)) FROM slow', 4);
in_flight('one by one', 'SET dsocr.prefetch = 1', 'SELECT count(dsocr_text(img)), count(dsocr_figure(img)) FROM slow', 2);
in_flight('all slots', 'SET dsocr.prefetch = 1000', 'SELECT count(dsocr_text(img)) FROM slow', 56);
in_flight('off', 'SET dsocr.batch_scan = off', 'SELECT count(dsocr_text(img)) FROM slow', 1);
in_flight('limited roles', q{ALTER SYSTEM SET dsocr.max_requests_per_role = 3; SELECT pg_reload_conf(); SELECT pg_sleep(0.2)},
	'SELECT count(dsocr_text(img)) FROM slow', 3);
sql($node, 'ALTER SYSTEM RESET dsocr.max_requests_per_role; SELECT pg_reload_conf()');

# rows that wait behind a slow one: the engine goes on
is(sql($node, "SELECT max(n) FROM (SELECT count(dsocr_text(CASE id WHEN 1 THEN 'STUB:sleep=1;text=x' ELSE img END)) AS n FROM page) c"), 200, 'a slow first row');
$node->stop;

# memory: images wait in their rows, and no longer than there is room
$node = new_server('batch_memory', conf => "dsocr.queue_memory = '4MB'");
sql($node, q{CREATE TABLE large AS SELECT i AS id, ('STUB:text=text ' || i || repeat(' ', 1500000))::bytea AS img FROM generate_series(1, 12) i});
is(sql($node, "SELECT string_agg(btrim(dsocr_text(img)), ',' ORDER BY id) FROM large"),
	join(',', map { "text $_" } 1 .. 12), 'images that do not fit into the queue together');
is(sql($node, q{SELECT count(dsocr_text(('STUB:text=text ' || i || repeat(' ', 1500000))::bytea)) FROM generate_series(1, 12) i}), 12,
	'documents that are computed');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
