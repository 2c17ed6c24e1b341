# 1,000 transactions that queue jobs and come to nothing, in all ways: nothing of them is ever executed.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

my $each = ($ENV{DSOCR_ROLLBACKS} // 1000) / 5;
stub_environment('latency=0');
my $node = new_server('commit', conf => "max_prepared_transactions = 300\ndsocr.runner_idle_timeout = 60s");
sql($node, q{CREATE TABLE scan (id int PRIMARY KEY, image bytea, body text);
	SELECT dsocr_attach('scan', 'image', 'body');
	CREATE FUNCTION job(i int) RETURNS bigint LANGUAGE sql AS $$SELECT dsocr_enqueue(convert_to('STUB:text=job ' || i, 'UTF8'))$$;
	CREATE FUNCTION put_row(i int) RETURNS void LANGUAGE sql AS $$INSERT INTO scan VALUES (i, convert_to('STUB:text=row ' || i, 'UTF8'))$$;
	-- queues and fails, inside a block that catches it
	CREATE FUNCTION caught(i int) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN PERFORM job(i), put_row(i); RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END $$});

# What the engine has read since the last reset, once the queue is empty.
sub executed
{
	wait_until(sub { sql($node, 'SELECT EXISTS (SELECT FROM dsocr.job_queue)') eq 'f' && sql($node, 'SELECT count(*) FROM t.requests()') eq '0' }, 120)
	  or return 'not drained';
	return sql($node, 'SELECT sum(completed) + sum(failed) + sum(cancelled) FROM t.stats()');
}

# Between them others commit, so that the runner is awake and looks.
my $n = 0;
my $committed = 0;
my $script = '';
sub queue { my ($i) = @_; return "SELECT job($i), put_row($i);\n"; }
for my $i (1 .. $each)
{
	$script .= 'BEGIN; ' . queue(++$n) . "ROLLBACK;\n";
	$script .= 'BEGIN; SAVEPOINT a; ' . queue(++$n) . "SAVEPOINT b; SELECT job($n); ROLLBACK TO a; COMMIT;\n";
	$script .= 'BEGIN; ' . queue(++$n) . "SELECT 1 / 0;\nCOMMIT;\n";
	$script .= 'BEGIN; SELECT caught(' . ++$n . "); COMMIT;\n";
	$script .= 'BEGIN; ' . queue(++$n) . "PREPARE TRANSACTION 'p$i';\n";
	if ($i % 10 == 0)
	{
		$script .= 'BEGIN; SAVEPOINT a; ' . queue(1_000_000 + $i) . "RELEASE a; COMMIT;\n";
		$committed += 2;
	}
}
sql($node, 'SELECT t.reset()');
end_sql(begin_sql($node, $script, go_on => 1));
is(sql($node, 'SELECT count(*) FROM pg_prepared_xacts'), $each, "$n transactions were rolled back, or prepared");
is(executed(), $committed, 'only what was committed was executed');
is(sql($node, 'SELECT count(*) FROM scan'), $committed / 2, 'and is there');

# a prepared transaction runs when it is committed, not when the server restarts
$node->restart;
wait_for_ready($node);
sql($node, 'SELECT ' . "job(2000000)");
is(executed(), 1, 'not after a restart');
$script = join '', map { ($_ % 2 ? 'COMMIT' : 'ROLLBACK') . " PREPARED 'p$_';\n" } 1 .. $each;
end_sql(begin_sql($node, $script));
is(executed(), 1 + $each, 'those that were committed now, and no others');
is(sql($node, q{SELECT count(*) FROM scan WHERE body = 'row ' || id}), $committed / 2 + $each / 2, 'with their rows');
is(sql($node, 'SELECT count(*) FROM dsocr.failures'), '0', 'none failed');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
