# The engine dies in every state: every query gets its text, no session ends.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('slow-load=0.3');
my $node = new_server('crash');
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
my $kept = begin_sql($node, "SELECT 'lived' FROM pg_sleep(20)");
my @signals = qw(SEGV ABRT KILL);

# Running, with eight queries inside; the later rounds hold the engine still, so
# that it dies with work it was given and has not looked at.
for my $round (0 .. 5)
{
	my $still = $round > 1;
	my $sleep = $still ? 0.5 : 1;
	my $pid = engine_pid($node);

	kill 'STOP', $pid if $still;
	my @readers =
	  map { begin_sql($node, reading("sleep=$sleep;text=page $round.$_")) } 1 .. 8;
	ok( $node->poll_query_until(
			'postgres', "SELECT count(*) = 8 FROM t.requests() WHERE state = 'running'"),
		"round $round: eight queries are running");
	kill $signals[ $round % 3 ], $pid;
	kill 'CONT', $pid if $still;
	for my $i (1 .. 8)
	{
		my ($rc, $out, $err) = end_sql($readers[ $i - 1 ]);
		is("$rc $out", "0 page $round.$i", "round $round: query $i got its text") or diag($err);
	}
	isnt(engine_pid($node), $pid, "round $round: another engine");
}
is($node->safe_psql('postgres', "SELECT sum(retried) FROM t.stats()"),
	48, 'each request was retried once');

# Idle.
for my $signal (@signals)
{
	my $pid = engine_pid($node);
	kill $signal, $pid;
	ok(wait_until(sub { my $new = engine_pid($node); $new && $new ne $pid }),
		"idle, $signal: replaced");
	is($node->safe_psql('postgres', reading('text=after')), 'after', "idle, $signal: reads");
	wait_for_ready($node);
}

# Loading.
for my $signal (@signals)
{
	$node->safe_psql('postgres', 'SELECT t.reload()');
	$node->poll_query_until('postgres',
		"SELECT state IN ('starting', 'degraded') AND engine_pid IS NOT NULL FROM t.workers()");
	my $pid = engine_pid($node);
	my $reader = begin_sql($node, reading('text=loaded'));
	kill $signal, $pid;
	my ($rc, $out, $err) = end_sql($reader);
	is("$rc $out", '0 loaded', "loading, $signal: reads") or diag($err);
	isnt(engine_pid($node), $pid, "loading, $signal: replaced");
}

server_is_same($node, $started, 'server was not restarted');
is(join(' ', (end_sql($kept))[ 0, 1 ]), '0 lived', 'a session that waited has lived');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
