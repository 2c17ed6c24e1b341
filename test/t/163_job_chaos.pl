# Engine, runner and server are killed at random: no job is lost, none done twice.
#
# DSOCR_CHAOS_JOBS=10000 for the whole of it.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $jobs = $ENV{DSOCR_CHAOS_JOBS} // 600;
my $half = int($jobs / 2);

# slow enough for many kills
stub_environment('latency=100;slots=16');
my $node = new_server('chaos', conf => "dsocr.retry_delay = 50ms\ndsocr.max_attempts = 1000\nmax_connections = 50");
sql($node, q{CREATE TABLE scan (id int PRIMARY KEY, image bytea, body text);
	CREATE TABLE written (id int);
	CREATE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.written VALUES (NEW.id); RETURN NULL; END';
	CREATE TRIGGER log_write AFTER UPDATE OF body ON scan FOR EACH ROW EXECUTE FUNCTION log_write();
	SELECT dsocr_attach('scan', 'image', 'body')});
sql($node, "INSERT INTO scan SELECT i, convert_to('STUB:text=row ' || i, 'UTF8') FROM generate_series(1, $half) i");
sql($node, "SELECT count(dsocr_enqueue(convert_to('STUB:text=job ' || i, 'UTF8'))) FROM generate_series(1, $half) i");

sub pid_of
{
	my ($type) = @_;
	my ($out) = try_sql($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = '$type' LIMIT 1");
	return $out =~ /^\d+$/ ? $out : undef;
}

my %kills = (engine => 0, runner => 0, launcher => 0, backend => 0, server => 0);
my %kill = (
	engine => sub { my ($pid) = try_sql($node, 'SELECT max(engine_pid) FROM t.workers()'); return kill 'KILL', $pid if $pid =~ /^[1-9]\d*$/; },
	runner => sub { my $pid = pid_of('dsocr job runner') or return; return kill 'TERM', $pid; },
	launcher => sub { my $pid = pid_of('dsocr job launcher') or return; return kill 'TERM', $pid; },
	# the postmaster ends all others and recovers
	backend => sub { my $pid = pid_of('dsocr job runner') or return; return kill 'KILL', $pid; },
	server => sub { $node->stop('immediate'); $node->start; return 1; });

srand($ENV{DSOCR_CHAOS_SEED} // 1);
my $start = time;
my $left = $jobs;
while ($left > 0 && time - $start < 30 + $jobs / 4)
{
	usleep(500_000 + rand(1_500_000));
	my @names = sort keys %kill;
	my $name = $names[ int(rand(@names)) ];
	$kills{$name}++ if $kill{$name}->();
	usleep(200_000);
	my ($out) = try_sql($node, 'SELECT count(*) FROM dsocr.job_queue');
	$left = $out if $out =~ /^\d+$/;
}
note(join ', ', map { "$kills{$_} times $_" } sort keys %kills);
ok(wait_until(sub { my ($out) = try_sql($node, 'SELECT count(*) FROM dsocr.job_queue'); $out eq '0' }, 180), 'all jobs have ended');
note(sprintf '%d jobs in %.0f s', $jobs, time - $start);

is(sql($node, 'SELECT count(*) FROM dsocr.failures'), '0', 'none failed');
is(sql($node, "SELECT count(*) || ' ' || count(DISTINCT result ->> 'raw') FROM dsocr.job_done WHERE NOT cancelled AND result ->> 'raw' ~ '^job \\d+\$'"),
	"$half $half", 'each queued document has one result');
is(sql($node, "SELECT count(*) FROM scan WHERE body = 'row ' || id"), $half, 'each row has its text');
is(sql($node, "SELECT count(*) || ' ' || count(DISTINCT id) FROM written"), "$half $half", 'and was written once');
is(sql($node, 'SELECT sum(jobs) FROM dsocr.job_tally'), $half, 'and counted once');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
