# Statistics equal what was done; views show others' requests without who and what.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('slots=4');
my $node = new_server('status', conf => "dsocr.devices = 'cpu, cpu'\ndsocr.max_requests = 8");

is($node->safe_psql('postgres', "SELECT string_agg(device || ' ' || state, ',') FROM t.workers()"),
	'cpu ready,cpu ready', 'two workers');
is( $node->safe_psql('postgres',
		"SELECT count(DISTINCT engine_pid) || ' ' || count(DISTINCT pid) || ' ' || min(model)
			|| ' ' || min(weights) || ' ' || bool_and(private_bytes > 10000 AND memory_bytes > private_bytes) FROM t.workers()"),
	'2 2 model-a bf16 true', 'two engines');
is($node->safe_psql('postgres', "SELECT version || ' ' || workers || ' ' || ready || ' ' || slots || ' ' || model FROM t.status()"),
	'0.1.0 2 2 8 model-a', 'status');

# 20 pages, 3 failures, 2 cancelled while running, 1 while queued, 1 crash.
$node->safe_psql('postgres', 'SELECT t.reset()');
is($node->safe_psql('postgres',
	"SELECT count(r) FROM (SELECT dsocr_generate(" . image('text=abcdefgh') . " || i::text::bytea, 'x') AS r
	  FROM generate_series(1, 20) i OFFSET 0) s"), 20, 'twenty pages');
$node->psql('postgres', reading('error=1:not an image')) for 1 .. 3;
$node->psql('postgres', 'SET statement_timeout = 300; ' . reading('sleep=30')) for 1 .. 2;
my $once = $node->basedir . '/once';
is($node->safe_psql('postgres', reading("crash-once=$once;text=abc")), 'abc', 'a crash on the way');

my @all = map { begin_sql($node, 'SET statement_timeout = 3000; ' . reading('sleep=30')) } 1 .. 8;
$node->poll_query_until('postgres', 'SELECT slots_used = 8 FROM t.status()');
is((end_sql($_))[0] != 0, 1, 'cancelled') for @all;
is_at_baseline($node, 'all slots are free');
is( $node->safe_psql('postgres',
		"SELECT sum(completed), sum(failed), sum(cancelled), sum(retried), sum(image_tokens),
			sum(text_tokens) FROM t.stats()"),
	'21|3|10|1|5733|61', 'statistics are what was done');
is($node->safe_psql('postgres',
	"SELECT bool_and(p50_ms > 0 AND p50_ms <= p95_ms AND p95_ms <= p99_ms AND p99_ms <= max_ms)
	 FROM t.stats() WHERE completed > 0"), 't', 'percentiles are in order');
is($node->safe_psql('postgres', 'SELECT t.reset(); SELECT sum(completed) FROM t.stats()'),
	"\n0", 'statistics were reset');

# Who sees what.
$node->safe_psql('postgres', <<'END');
CREATE ROLE alice LOGIN;
CREATE ROLE bob LOGIN;
CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats;
GRANT USAGE ON SCHEMA t TO PUBLIC;
END
my $reader = begin_sql($node, reading('sleep=15;progress=1500'), user => 'alice');
$node->poll_query_until('postgres', 'SELECT max(text_tokens) > 1 FROM t.requests()');
my $query = "SELECT coalesce(pid::text, '-') || ' ' || coalesce(role::regrole::text, '-') || ' '
	|| coalesce(database::text, '-') || ' ' || state || ' ' || coalesce(task, '-') || ' '
	|| coalesce(mode, '-') || ' ' || device || ' ' || views FROM t.requests()";
is((end_sql(begin_sql($node, $query, user => 'bob')))[1], '- - - running - - cpu 1', 'seen by another');
for my $who ('alice', 'watcher')
{
	like((end_sql(begin_sql($node, $query, user => $who)))[1],
		qr/^\d+ alice \d+ running generate auto cpu 1$/, "seen by $who");
}
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE usename = 'alice' AND wait_event_type = 'Extension'"),
	1, 'the waiting session shows a wait event');
is($node->safe_psql('postgres', 'SELECT sum(running) FROM t.workers()'), 1, 'one is running');
ok(wait_until(sub {
	$node->safe_psql('postgres', 'SELECT max(tokens_per_second) > 10 FROM t.workers()') eq 't' }),
	'the token rate shows');
end_sql($reader);

# A request is logged when asked for, without its text.
my $size = -s $node->logfile;
$node->safe_psql('postgres', 'SET dsocr.log_requests = on; ' . reading('text=secret words'));
my $said = substr(slurp_file($node->logfile), $size);
like($said, qr/LOG:  dsocr request: \d+ ms, 1000x1000 pixels, 1 views, 273 image tokens/, 'logged');
unlike($said, qr/secret words/, 'without its text');
$node->stop;
done_testing();
