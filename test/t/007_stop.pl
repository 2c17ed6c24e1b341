# The server stops in time while the engine is busy, and leaves none behind.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('stop');

# Start, and give the pid of the engine.  A killed postmaster's children may take
# a moment to let go of its shared memory.
sub started_engine
{
	my ($commands) = @_;
	my $pid;

	stub_environment($commands);
	ok(wait_until(sub { $node->{_pid} = undef; $node->start(fail_ok => 1) }), 'server has started')
	  unless $node->{_pid};
	wait_until(sub { $pid = engine_pid($node) });
	return $pid;
}

for my $mode (qw(fast immediate smart))
{
	for my $doing ('hang', 'sleep=60;ignore-cancel', 'load')
	{
		my $pid = started_engine($doing eq 'load' ? 'slow-load=60' : '');
		my @readers;

		# A smart stop waits for clients, so there are none.
		if ($mode ne 'smart')
		{
			@readers = map { begin_sql($node, reading($doing)) } 1 .. 3;
			$node->poll_query_until('postgres',
				"SELECT count(*) = 3 FROM t.requests() WHERE state IN ('queued', 'running')");
		}
		ok(alive($pid), "$mode, $doing: engine is there");
		my $start = time;
		$node->stop($mode);
		my $took = time - $start;
		cmp_ok($took, '<', 20, sprintf('%s, %s: stopped in %.2f s', $mode, $doing, $took));
		ok(wait_until(sub { !alive($pid) }, 15), "$mode, $doing: no engine is left");
		for my $reader (@readers)
		{
			my ($rc) = end_sql($reader);
			isnt($rc, 0, "$mode, $doing: session has ended");
		}
	}
}

# The postmaster vanishes.
for my $doing ('', 'hang', 'load')
{
	my $pid = started_engine($doing eq 'load' ? 'slow-load=60' : '');
	my $reader;
	if ($doing eq 'hang')
	{
		$reader = begin_sql($node, reading($doing));
		$node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM t.requests() WHERE state = 'running'");
	}
	$node->kill9;
	ok(wait_until(sub { !alive($pid) }, 15), "postmaster killed ($doing): no engine is left");
	end_sql($reader) if $reader;
}

# A backend is killed: the server restarts its processes, and dsocr with it.
my $engine = started_engine('');
wait_for_ready($node);
my $victim = begin_sql($node, 'SELECT pg_sleep(60)');
my $reader = begin_sql($node, reading('sleep=60'));
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM t.requests() WHERE state = 'running'");
my $pid = $node->safe_psql('postgres',
	"SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()");
kill 'KILL', $pid;
my ($rc) = end_sql($reader);
isnt($rc, 0, 'a waiting client gets an error');
ok(wait_until(sub { !alive($engine) }), 'crash restart: the old engine is gone');
ok($node->poll_query_until('postgres', "SELECT state = 'ready' FROM t.workers()"),
	'crash restart: the worker is back');
is($node->safe_psql('postgres', reading('text=again')), 'again', 'crash restart: reads');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
