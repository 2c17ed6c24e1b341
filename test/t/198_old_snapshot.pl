# The jobs of an hour come and go while an old snapshot keeps all their rows: claims cost what they did before.
#
# DSOCR_HOUR_JOBS=360000 for the whole hour of 100 jobs a second; then the time of claims is asserted, too.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $jobs = $ENV{DSOCR_HOUR_JOBS} // 4000;
my $singles = $ENV{DSOCR_HOUR_JOBS} ? 1000 : 100;
stub_environment('latency=0;slots=64');
# what each claim takes is in the log: by itself, without instrumenting the server
my $node = new_server('snapshot', conf => <<'END');
shared_preload_libraries = 'dsocr, auto_explain'
auto_explain.log_analyze = on
auto_explain.log_buffers = on
auto_explain.log_timing = off
auto_explain.log_format = json
autovacuum = on
autovacuum_naptime = 5s
dsocr.runner_idle_timeout = 600s
END

sub drained { return wait_until(sub { sql($node, 'SELECT EXISTS (SELECT FROM dsocr.job_queue)') eq 'f' }, 30 + $jobs / 100); }

sub log_claims
{
	my ($duration) = @_;
	sql($node, "ALTER SYSTEM SET auto_explain.log_min_duration = $duration");
	sql($node, 'SELECT pg_reload_conf()');
	# the runner is told by the next job at the latest
	sql($node, 'SELECT (dsocr_wait(' . sql($node, 'SELECT dsocr_enqueue(' . image('text=x') . ')') . ", '60 s')).raw");
	return;
}

sub p99 { my @sorted = sort { $a <=> $b } @_; return $sorted[ int(0.99 * $#sorted + 0.5) ]; }

# Single jobs, one after the other: milliseconds and blocks of each claim that found one.
sub claims
{
	log_claims(0);
	my $offset = -s $node->logfile;
	my $script = '';
	$script .= 'SELECT dsocr_enqueue(' . image("text=$_") . ") AS job \\gset\nSELECT (dsocr_wait(:job, '60 s')).raw;\n" for 1 .. $singles;
	end_sql(begin_sql($node, $script));
	log_claims(-1);
	my $log = substr slurp_file($node->logfile), $offset;
	my (@ms, @blocks);
	while ($log =~ /duration: ([\d.]+) ms  plan:\n(.*?\n\t?\})/gs)
	{
		my ($ms, $plan) = ($1, $2);
		next unless $plan =~ /"Query Text": "SELECT q\.id, q\.attempts/ && $plan =~ /"Actual Rows": [1-9]/;
		push @ms, $ms;
		push @blocks, ($plan =~ /"Shared Hit Blocks": (\d+)/)[0] + ($plan =~ /"Shared Read Blocks": (\d+)/)[0];
	}
	cmp_ok(scalar @ms, '>=', $singles * 0.9, 'claims are in the log');
	return { ms => p99(@ms), blocks => p99(@blocks) };
}

claims();
my $before = claims();
my $session = begin_sql($node, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dsocr.jobs; SELECT pg_sleep(7200)');
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND backend_xmin IS NOT NULL");
my $start = time;
my $left = $jobs;
while ($left > 0)
{
	my $n = $left < 20000 ? $left : 20000;
	sql($node, "SELECT count(dsocr_enqueue(convert_to('STUB:text=x' || i, 'UTF8'))) FROM generate_series(1, $n) i");
	drained() or last;
	$left -= $n;
}
is($left, 0, 'all were done');
my $seconds = time - $start;
cmp_ok(sql($node, 'SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = $$job_queue$$'), '>=', $jobs * 0.9, 'and their rows are still there');
my $with = claims();
my $size = sql($node, 'SELECT pg_size_pretty(pg_total_relation_size($$dsocr.job_queue$$))');
note(sprintf '%d jobs in %.0f s beside an old snapshot, queue of %s; p99 of %d claims: %.3f ms and %d blocks before, %.3f ms and %d blocks with it',
	$jobs, $seconds, $size, $singles, $before->{ms}, $before->{blocks}, $with->{ms}, $with->{blocks});
cmp_ok($with->{blocks}, '<=', 2 * $before->{blocks} + 4, 'claims touch no more blocks');
cmp_ok($with->{ms}, '<=', 2 * $before->{ms}, 'and take no more time') if $ENV{DSOCR_HOUR_JOBS};
sql($node, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
end_sql($session);
ok(wait_until(sub { sql($node, 'VACUUM dsocr.job_queue'); sql($node, 'SELECT pg_relation_size($$dsocr.job_queue$$)') <= 65536 }, 60), 'afterwards the space comes back');
$node->stop;
done_testing();
