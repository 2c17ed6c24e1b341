# Failover again and again: a standby reads, is promoted, and runs the jobs that are left.
#
# DSOCR_FAILOVERS=20 for the whole of it.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{DSOCR_FAILOVERS} // 3;
my $jobs = 40;
stub_environment('latency=50;slots=8');
my $primary = new_server('primary', init => { allows_streaming => 1 }, conf => "dsocr.retry_delay = 50ms\nmax_wal_senders = 5");
sql($primary, q{CREATE TABLE scan (id int PRIMARY KEY, image bytea, body text);
	CREATE TABLE written (id int, body text);
	CREATE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.written VALUES (NEW.id, NEW.body); RETURN NULL; END';
	CREATE TRIGGER log_write AFTER UPDATE OF body ON scan FOR EACH ROW EXECUTE FUNCTION log_write();
	SELECT dsocr_attach('scan', 'image', 'body')});

my @took;
my ($next, $in_flight) = (0, 0);
for my $round (1 .. $rounds)
{
	my $standby = PostgreSQL::Test::Cluster->new("standby_$round");
	$primary->backup("base_$round");
	$standby->init_from_backup($primary, "base_$round", has_streaming => 1);
	$standby->start;
	ok(wait_for_ready($standby), "$round: the standby has a worker");
	is(sql($standby, reading("text=read $round")), "read $round", "$round: and reads");

	# the last ones take longer than the primary lives
	my ($from, $to) = ($next + 1, $next += $jobs);
	sql($primary, "INSERT INTO scan SELECT i, convert_to(CASE WHEN i > $to - 5 THEN 'STUB:sleep=2;text=row ' ELSE 'STUB:text=row ' END || i, 'UTF8') FROM generate_series($from, $to) i");
	$primary->wait_for_catchup($standby);
	wait_until(sub { sql($primary, q{SELECT count(*) FROM t.requests() WHERE state = 'running'}) > 0 }, 10);
	$in_flight += sql($primary, q{SELECT count(*) FROM t.requests()});
	is(sql($standby, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dsocr job%'}), '0', "$round: it runs no jobs");
	$primary->stop('immediate');
	my $left = sql($standby, 'SELECT count(*) FROM dsocr.job_queue');
	$standby->promote;
	my $start = wait_until(sub { sql($standby, 'SELECT count(*) FROM dsocr.job_queue') < $left || sql($standby, 'SELECT count(*) FROM t.requests()') > 0 }, 30);
	push @took, $start // 99;
	cmp_ok($left, '>', 0, "$round: jobs were left");
	ok(wait_until(sub { sql($standby, 'SELECT EXISTS (SELECT FROM dsocr.job_queue)') eq 'f' }, 60), "$round: they were done");
	$primary = $standby;
}
note(sprintf '%d failovers, %d requests in flight; jobs ran %s s after the promotion', $rounds, $in_flight, join ', ', map { sprintf '%.1f', $_ } @took);
cmp_ok((sort { $b <=> $a } @took)[0], '<=', 10, 'jobs ran within ten seconds');
is(sql($primary, q{SELECT count(*) FROM scan WHERE body = 'row ' || id}), $next, 'all rows have their text');
is(sql($primary, 'SELECT count(*) FROM (SELECT id FROM written GROUP BY id HAVING count(*) <> 1) AS t'), '0', 'each was written once');
is(sql($primary, 'SELECT count(*) FROM dsocr.failures'), '0', 'none failed');
is_at_baseline($primary, 'nothing is left in the queue');
$primary->stop;
done_testing();
