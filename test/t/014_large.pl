# Large images and results: streamed, cancelled half-way, never in others' way.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

stub_environment('slots=8');
my $node = new_server('large', conf => 'dsocr.queue_memory = 256MB');
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
my $large = "convert_to('STUB:%s' || chr(10) || repeat(' ', 30000000), 'UTF8')";

sub large
{
	my ($commands) = @_;
	return 'SELECT length(dsocr_generate(' . sprintf($large, $commands) . ", 'x'))";
}

# Given up while it is being written: the engine hears of it as soon as it has it.
my $pid = engine_pid($node);
kill 'STOP', $pid;
my $late = begin_sql($node, large('sleep=20'));
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM t.requests() WHERE state = 'running'");
$late->{run}->signal('INT');
end_sql($late);
kill 'CONT', $pid;
cmp_ok(wait_until(sub { $node->safe_psql('postgres', 'SELECT slots_used FROM t.status()') eq '0' }) // 99,
	'<', 15, 'a page given up half-way is stopped at once');

is($node->safe_psql('postgres', 'SELECT dsocr_generate(' . sprintf($large, 'sleep=0;big=4') . ", 'x')"),
	'xxxx', 'a page of 30 MB');
is($node->safe_psql('postgres', large('sleep=0;big=20000000')), 20000000, 'a text of 20 MB');
is_at_baseline($node, 'after large pages');

# The engine does not read: a half-written page waits, the worker does not.
my $neighbour = begin_sql($node, reading('sleep=2;text=neighbour'));
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM t.requests() WHERE state = 'running'");
kill 'STOP', $pid;
my @stuck = map { begin_sql($node, large('sleep=0;big=7')) } 1 .. 3;
$node->poll_query_until('postgres',
	"SELECT count(*) FILTER (WHERE state = 'running') = 2 AND count(*) = 4 FROM t.requests()");
my $start = time;
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('postgres', 'DROP DATABASE other');
cmp_ok(time - $start, '<', 30, 'databases come and go meanwhile');

# All three are given up: the queued go at once, the half-written one when it
# has been written.
$_->{run}->signal('INT') for @stuck;
end_sql($_) for @stuck;
is($node->safe_psql('postgres', 'SELECT slots_used FROM t.status()'), 2, 'only what is inside is left');
kill 'CONT', $pid;
is((end_sql($neighbour))[1], 'neighbour', 'the neighbour reads');
is_at_baseline($node, 'after a half-written page');
is(engine_pid($node), $pid, 'with the same engine');

# The engine dies in the middle of a page.
kill 'STOP', $pid;
@stuck = map { begin_sql($node, large("sleep=0;big=$_")) } 1 .. 3;
$node->poll_query_until('postgres',
	"SELECT count(*) FILTER (WHERE state = 'running') = 1 AND count(*) = 3 FROM t.requests()");
kill 'KILL', $pid;
is((end_sql($stuck[ $_ - 1 ]))[1], $_, "page $_ is read by the next engine") for 1 .. 3;
is_at_baseline($node, 'after the death of an engine');
server_is_same($node, $started, 'server was not restarted');
$node->stop;
done_testing();
