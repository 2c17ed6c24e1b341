# Many sessions against few slots, some of them impatient: nobody is stuck, nobody
# waits much longer than others, and who gives up is told why.
#
# DSOCR_SESSIONS=1000 DSOCR_REQUESTS=100000 DSOCR_SLOTS=64 DSOCR_LATENCY=100 is the full size.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my ($pgbench) = grep { -x } map { "$_/pgbench" } split /:/, $ENV{PATH};
plan skip_all => 'needs pgbench' unless $pgbench;

my $sessions = $ENV{DSOCR_SESSIONS} // 60;
my $requests = $ENV{DSOCR_REQUESTS} // 3000;
my $slots = $ENV{DSOCR_SLOTS} // 8;
my $latency = $ENV{DSOCR_LATENCY} // 20;
my $each = int($requests / $sessions);

# What a request waits when all stand in line, in milliseconds.
my $wait = $sessions * $latency / $slots;
my $hasty = sprintf '%dms', $wait / 5 + 1;
my $impatient = sprintf '%dms', $wait / 2 + 1;

stub_environment("slots=$slots;latency=$latency");
my $node = new_server('many',
	conf => "max_connections = @{[ $sessions + 30 ]}\ndsocr.max_requests = $slots\ndsocr.queue_timeout = 0\ndsocr.batch_scan = off\nlog_min_error_statement = panic\nlog_min_messages = fatal");

# One session in five has little patience, of one kind or the other.
sql($node, <<"END");
CREATE UNLOGGED TABLE t.asked (session int, kind text, ms float8, state text, hint text);
CREATE PROCEDURE t.ask(session int, n int) LANGUAGE plpgsql AS \$\$
DECLARE kind text := CASE WHEN session % 5 > 0 THEN 'patient' WHEN session % 2 > 0 THEN 'hasty' ELSE 'impatient' END;
	start timestamptz; state text; hint text;
BEGIN
	IF kind = 'hasty' THEN SET dsocr.queue_timeout = '$hasty'; END IF;
	IF kind = 'impatient' THEN SET dsocr.timeout = '$impatient'; END IF;
	FOR i IN 1 .. n LOOP
		start := clock_timestamp();
		state := 'ok';
		hint := '';
		BEGIN
			IF dsocr_text(@{[ image('text=x') ]}) <> 'x' THEN state := 'wrong'; END IF;
		EXCEPTION WHEN query_canceled OR OTHERS THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, hint = PG_EXCEPTION_HINT;
		END;
		INSERT INTO t.asked VALUES (session, kind, extract(epoch FROM clock_timestamp() - start) * 1000, state, hint);
		COMMIT;
	END LOOP;
END \$\$;
END
my $script = $node->basedir . '/ask.sql';
append_to_file($script, "CALL t.ask(:client_id, $each);\n");

# Some more are cancelled, by time and by hand.
my $sudden = sprintf '%dms', $wait * 0.7 + 1;
my @more = map {
	begin_sql($node, "SET application_name = 'may be cancelled'; SET statement_timeout = '$sudden';\n" . (reading('text=x') . " \\g /dev/null\n") x $each . "\\echo ended\n", go_on => 1)
} 1 .. 3 + $sessions / 100;

my $start = time;
my $bench = IPC::Run::start([ $pgbench, '-n', '-c', $sessions, '-j', 2, '-t', 1, '-f', $script, '-d', $node->connstr('postgres') ],
	'>', \my $out, '2>', \my $err);
my $cancel = q{SELECT count(pg_cancel_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
	WHERE application_name = 'may be cancelled' AND wait_event_type = 'Extension' ORDER BY random() LIMIT 2) s};
my $cancelled = 0;
while ($bench->pumpable)
{
	$bench->pump_nb;
	$cancelled += sql($node, $cancel);
	usleep(300_000);
}
ok($bench->finish, 'all sessions end') or diag($err);
my $seconds = time - $start;
is(join(',', map { (end_sql($_))[1] } @more), join(',', ('ended') x @more), 'and those that were cancelled');
is_at_baseline($node, 'nothing is left in use');

my $n = $sessions * $each;
is(sql($node, 'SELECT count(*) FROM t.asked'), $n, "all $n requests have ended");
is(sql($node, q{SELECT count(*) FROM t.asked WHERE kind = 'patient' AND state <> 'ok'}), 0, 'who waits has an answer');
is(sql($node, q{SELECT string_agg(DISTINCT state, ',' ORDER BY state) FROM t.asked WHERE kind = 'hasty' AND state NOT IN ('ok', '57014')}), '53400', 'overload is 53400');
is(sql($node, q{SELECT count(*) FROM t.asked WHERE state LIKE '53%' AND hint NOT LIKE 'Try again later, or raise dsocr.queue_timeout%'}), 0, 'with a hint');
is(sql($node, q{SELECT string_agg(DISTINCT state, ',' ORDER BY state) FROM t.asked WHERE kind = 'impatient' AND state <> 'ok'}), '57014', 'timeouts are 57014');
my ($mean, $p99, $longest) = split /\|/, sql($node, q{SELECT round(avg(ms)), round(percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)), round(max(ms)) FROM t.asked WHERE kind = 'patient'});
cmp_ok($longest, '<=', 3 * $mean, "longest wait $longest ms, mean $mean ms");
my ($least, $most) = split /\|/, sql($node, q{SELECT round(min(a)), round(max(a)) FROM (SELECT avg(ms) AS a FROM t.asked WHERE kind = 'patient' GROUP BY session) s});
cmp_ok($most, '<=', 1.5 * $mean, "means of single sessions from $least to $most ms");
diag(sprintf '%d sessions, %d slots, %d requests in %.0f s; mean %d ms, p99 %d ms, longest %d ms; sessions from %d to %d ms; %s; %d more sessions, %d times cancelled by hand', $sessions, $slots, $n, $seconds,
	$mean, $p99, $longest, $least, $most, sql($node, q{SELECT string_agg(kind || ' ' || state || ' ' || n, ', ' ORDER BY kind, state) FROM (SELECT kind, state, count(*) AS n FROM t.asked GROUP BY 1, 2) s}), scalar @more, $cancelled);

done_testing;
