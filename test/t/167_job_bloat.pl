# An old snapshot keeps all dead rows; claims cost no more than without it.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

my $jobs = $ENV{DSOCR_BLOAT_JOBS} // 5000;
stub_environment('latency=0');
my $node = new_server('bloat', conf => "autovacuum = off\ndsocr.runner_idle_timeout = 60s");
my $drained = sub { sql($node, 'SELECT EXISTS (SELECT FROM dsocr.job_queue)') eq 'f' };

# Blocks of the queue and of the index that claims go by, for each of some single jobs.
my $blocks = q{SELECT pg_stat_force_next_flush(), (SELECT idx_blks_hit + idx_blks_read FROM pg_statio_user_indexes WHERE indexrelname = 'job_queue_order')
	+ (SELECT heap_blks_hit + heap_blks_read FROM pg_statio_user_tables WHERE relname = 'job_queue')};
sub cost
{
	my ($n) = @_;
	# the runner reports what it did at most once a second
	my $read = sub { sleep 2; (my $b = sql($node, $blocks)) =~ s/^\|//; return $b; };
	my $before = $read->();
	for (1 .. $n)
	{
		my $job = sql($node, 'SELECT dsocr_enqueue(' . image('text=x') . ')');
		sql($node, "SELECT (dsocr_wait($job, '30 s')).raw");
	}
	return ($read->() - $before) / $n;
}

cost(5);
my $baseline = cost(30);
my $session = begin_sql($node, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dsocr.jobs; SELECT pg_sleep(600)');
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND backend_xmin IS NOT NULL");
for (1 .. 5)
{
	sql($node, 'SELECT count(dsocr_enqueue(' . image('text=x') . ", priority => $_)) FROM generate_series(1, $jobs / 5)");
	ok(wait_until($drained, 120), 'drained');
}
sql($node, 'VACUUM dsocr.job_queue');
cmp_ok(sql($node, 'SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = $$job_queue$$'), '>=', $jobs * 0.9, 'dead rows are there');
my $with = cost(30);
note(sprintf 'blocks for each job: %.1f without, %.1f with %d dead rows', $baseline, $with, $jobs);
cmp_ok($with, '<', 2 * $baseline + 5, 'a job costs no more blocks');
sql($node, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
end_sql($session);

# afterwards the table is as small as before
sql($node, 'VACUUM dsocr.job_queue');
cmp_ok(sql($node, 'SELECT pg_relation_size($$dsocr.job_queue$$)'), '<=', 65536, 'and the space comes back');
$node->stop;
done_testing();
