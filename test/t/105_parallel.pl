# A parallel plan keeps several requests in flight.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;

my $node = new_server('parallel', conf => "max_worker_processes = 16\nmax_parallel_workers = 8");
# one reading in each process, so that none takes the work of the others
my $plan = q{SET dsocr.prefetch = 1; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
	SET max_parallel_workers_per_gather = 4;};

# 16 pages of half a second, several to a block are fine: a block holds few of these
sql($node, q{CREATE TABLE scan (i int, image bytea); ALTER TABLE scan ALTER image SET STORAGE plain;
	ALTER TABLE scan SET (parallel_workers = 4);
	INSERT INTO scan SELECT i, convert_to('STUB:sleep=0.5;text=page ' || i || repeat(' ', 6000), 'UTF8') FROM generate_series(1, 16) i;
	ANALYZE scan});
my $query = 'SELECT i, btrim(dsocr_text(image)) AS body FROM scan';

like(sql($node, "$plan EXPLAIN $query"), qr/Gather.*\n.*Workers Planned: 4/, 'the plan is parallel');
# one process that reads ahead would take all rows
my $reader = begin_sql($node, "$plan SET dsocr.batch_scan = off; $query");
ok($node->poll_query_until('postgres', q{SELECT count(*) >= 3 FROM dsocr.requests WHERE state = 'running'}),
	'several requests run at once');
is(sql($node, "SELECT count(DISTINCT pid) >= 3, count(DISTINCT role), min(database), min(task), bool_and(device = 'cpu') FROM dsocr.requests"),
	't|1|postgres|text|t', 'of several processes');
my ($rc, $out, $err) = end_sql($reader);
is_deeply([ sort { $a <=> $b } split /\n/, $out ], [ map { "$_|page $_" } 1 .. 16 ], 'all pages, each once') or diag($err);

# what workers report reaches the client
sql($node, q{UPDATE scan SET image = convert_to('STUB:error=1:bad page ' || i, 'UTF8') WHERE i % 4 = 0});
($out, $err) = try_sql($node, "$plan $query");
like($err, qr/ERROR:  bad page \d+/, 'an error ends the query');
is_at_baseline($node, 'and its other requests are given up');
($out, $err) = try_sql($node, "$plan SET dsocr.on_error = 'warning'; $query");
is(scalar(() = $out =~ /\|page/g), 12, 'settings reach the workers');
is(scalar(() = $err =~ /WARNING:  bad page/g), 4, 'and warnings come back');

# cancel while workers wait
sql($node, q{UPDATE scan SET image = convert_to('STUB:sleep=60', 'UTF8')});
($out, $err) = try_sql($node, "$plan SET statement_timeout = 500; $query");
like($err, qr/ERROR:  canceling statement due to statement timeout/, 'cancelled');
is_at_baseline($node, 'nothing is left in the queue');

# the planner evaluates cheap conditions first
like(sql($node, "EXPLAIN (COSTS off) SELECT * FROM scan WHERE dsocr_text(image) = 'x' AND i = 3"),
	qr/Filter: \(dsocr_text.*Filter: \(i = 3\)/s, 'reading comes last');
$node->stop;
done_testing();
