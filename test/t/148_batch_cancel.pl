# Queries that end early give up what they have begun, whatever ends them.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;
use DsocrBatch;
use Time::HiRes qw(time);

my $node = new_server('batch_cancel');
my $started = sql($node, 'SELECT pg_postmaster_start_time()');
sql($node, q{CREATE TABLE slow AS SELECT i AS id, 'STUB:sleep=60'::bytea AS img FROM generate_series(1, 100) i;
	CREATE TABLE scan AS SELECT i AS id, convert_to('STUB:text=text ' || i, 'UTF8') AS img FROM generate_series(1, 100) i; ANALYZE});
my $query = 'SELECT count(dsocr_text(img)) FROM slow';

# timeouts
my ($out, $err) = try_sql($node, "SET statement_timeout = 300; $query");
like($err, qr/canceling statement due to statement timeout/, 'statement_timeout');
is_at_baseline($node, 'after statement_timeout');
($out, $err) = try_sql($node, "SET dsocr.timeout = 300; $query");
like($err, qr/canceling request due to dsocr.timeout/, 'dsocr.timeout');
is_at_baseline($node, 'after dsocr.timeout');
is(sql($node, 'SET dsocr.timeout = 5000; SET dsocr.prefetch = 60; SELECT count(dsocr_text(img)) FROM scan'), 100,
	'dsocr.timeout is the patience with one, not with all');

# cancel, terminate, and a client that goes
sub in_flight
{
	return wait_until(sub { sql($node, 'SELECT count(*) FROM t.requests()') == 32 });
}
for my $end (qw(pg_cancel_backend pg_terminate_backend))
{
	my $session = begin_sql($node, $query);

	ok(in_flight(), 'requests are in flight');
	my $time = time;
	sql($node, "SELECT $end(pid) FROM pg_stat_activity WHERE query = '$query'");
	($out, $err) = (end_sql($session))[ 1, 2 ];
	like($err, qr/canceling statement|terminating connection/, $end);
	cmp_ok(time - $time, '<', 30, "$end: soon");
	is_at_baseline($node, "after $end");
}

# subtransactions and blocks that catch the error
sql($node, qq{DO \$\$
	BEGIN
		SET LOCAL dsocr.timeout = 200;
		PERFORM count(dsocr_text(img)) FROM slow;
	EXCEPTION WHEN query_canceled THEN NULL;
	END \$\$});
is_at_baseline($node, 'caught: nothing is held any more');
sql($node, q{DO $$
	DECLARE n int := 0;
	BEGIN
		FOR i IN 1 .. 20 LOOP
			BEGIN
				PERFORM dsocr_text(img), 1 / (id - 5) FROM scan;
			EXCEPTION WHEN division_by_zero THEN n := n + 1;
			END;
		END LOOP;
		ASSERT n = 20;
	END $$});
is_at_baseline($node, 'the same again and again');

# the engine dies: what was in flight is read again
my $crash = $node->basedir . '/crashed';
is(sql($node, "SELECT count(dsocr_text(CASE id WHEN 40 THEN convert_to('STUB:crash-once=$crash;text=x', 'UTF8') ELSE img END)) FROM scan"),
	100, 'an engine that dies costs nothing');
wait_for_ready($node);
($out, $err) = try_sql($node, q{SELECT id, dsocr_text(CASE id WHEN 40 THEN 'STUB:crash' ELSE img END) FROM scan});
like($err, qr/ERROR:  the engine died twice on this request/, 'an image that kills engines fails alone');
wait_for_ready($node);
is_at_baseline($node, 'nothing is left in the queue');
is(sql($node, 'SELECT count(dsocr_text(img)) FROM scan'), 100, 'and all goes on');
server_is_same($node, $started, 'the server stayed');
$node->stop;
done_testing();
