# Queries go before jobs, and jobs go on however many queries there are.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('slots=2;latency=20');
my $node = new_server('among', conf => "dsocr.max_requests = 4\ndsocr.batch_scan = off\nmax_worker_processes = 16\ndsocr.keep_jobs = '1d'");
sql($node, 'CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE carol LOGIN; ALTER ROLE carol SET dsocr.role_weight = 3');
sub queue
{
	my ($who, $n, $commands, %option) = @_;
	return sql($node, 'SELECT count(dsocr_enqueue(' . image($commands) . " || i::text::bytea)) FROM generate_series(1, $n) i", user => $who, %option);
}
my $left = 'SELECT count(*) FROM dsocr.job_queue';
my $ended = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%generate_series%' AND pid <> pg_backend_pid()";

# More sessions than slots, and none of them ever ends: somebody always stands in line.
my @sessions = map {
	begin_sql($node, 'SELECT count(dsocr_text(' . image('text=alice') . " || i::text::bytea)) FROM generate_series(1, 100000) i", user => 'alice', go_on => 1)
} 1 .. 10;
$node->poll_query_until('postgres', 'SELECT waiting > 0 FROM t.status()');
for my $who (qw(alice bob))
{
	sql($node, 'SELECT t.reset()');
	queue($who, 30, 'text=job');
	ok(wait_until(sub { sql($node, $left) eq '0' }, 120), "jobs of $who end among queries");
	my $pages = sql($node, 'SELECT sum(pages) FROM dsocr.usage');
	cmp_ok($pages, '>=', 60, "and the queries had more: $pages pages for 30 jobs");
	cmp_ok($pages, '<=', 3000, 'but not all');
}
is(sql($node, 'SELECT waiting > 0 FROM t.status()'), 't', 'all the time');
sql($node, $ended);
end_sql($_) for @sessions;
is_at_baseline($node, 'nothing is left in use');

# A query goes before jobs that are queued already.
stub_environment('slots=1;latency=300');
$node->append_conf('postgresql.conf', 'dsocr.max_requests = 20');
$node->restart;
wait_for_ready($node);
queue('bob', 10, 'text=slow');
$node->poll_query_until('postgres', "SELECT count(*) FILTER (WHERE state = 'queued') >= 6 FROM t.requests()");
sql($node, reading('text=query'));
cmp_ok(sql($node, $left), '>=', 4, 'the query did not wait for all jobs');
ok(wait_until(sub { sql($node, $left) eq '0' }, 60), 'which end');

# A limit of a role holds for its jobs.
sql($node, 'ALTER ROLE bob SET dsocr.max_requests_per_role = 1');
my $go = $node->basedir . '/go';
queue('bob', 10, "until=$go;text=limited");
queue('alice', 5, "until=$go;text=free");
my $running = "SELECT string_agg(role || ' ' || n, ',' ORDER BY role) FROM (SELECT role, count(*) AS n FROM dsocr.requests GROUP BY role) s";
ok($node->poll_query_until('postgres', $running, 'alice 5,bob 1'), 'one request of a role that may have one, and all of the other behind it');
append_to_file($go, '');
ok(wait_until(sub { sql($node, $left) eq '0' }, 60), 'all jobs end');
is(sql($node, 'SELECT count(*) FROM dsocr.failures'), 0, 'none has failed');

# Runners of two databases share by the weights of their roles.
stub_environment('slots=2;latency=20');
$node->restart;
wait_for_ready($node);
sql($node, 'CREATE DATABASE second');
sql($node, 'CREATE EXTENSION dsocr', db => 'second');
sql($node, 'SELECT t.reset()');
queue('alice', 600, 'text=one');
queue('carol', 600, 'text=two', db => 'second');
$node->poll_query_until('postgres', "SELECT count(DISTINCT role) = 2 FROM dsocr.requests WHERE role IS NOT NULL");
sql($node, 'SELECT t.reset()');
$node->poll_query_until('postgres', "SELECT sum(pages) >= 200 FROM dsocr.usage");
my $share = sql($node, "SELECT round(max(pages) FILTER (WHERE role = 'carol') / sum(pages), 2) FROM dsocr.usage");
ok($share > 0.6 && $share < 0.87, "three times the weight: $share");
$node->stop('immediate');

done_testing;
