# Two devices: they share the queue while engines die and requests are given up;
# and where one has no worker, the other one's troubles are told.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

# Good, slow and poisonous pages from eight sessions; engines are killed meanwhile.
srand(815);
stub_environment('slots=4');
my $both = new_server('both', conf => "dsocr.devices = 'cpu, cpu'\ndsocr.max_requests = 6");
my $started = $both->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
my @sessions;
my $expected = 0;
for my $s (1 .. 8)
{
	my $sql = "SET dsocr.queue_timeout = 0;\n";
	for my $i (1 .. 20)
	{
		my $what = rand();
		if ($what < 0.5)
		{
			$sql .= reading("sleep=0.02;text=good") . ";\n";
			$expected++;
		}
		elsif ($what < 0.9)
		{
			$sql .= 'SET dsocr.timeout = ' . (1 + int(rand(60))) . '; ' . reading('sleep=5')
			  . "; RESET dsocr.timeout;\n";
		}
		else
		{
			$sql .= reading('crash') . ";\n";
		}
	}
	push @sessions, begin_sql($both, $sql, go_on => 1);
}
for (1 .. 5)
{
	usleep(300_000);
	my $pid = $both->safe_psql('postgres', 'SELECT engine_pid FROM t.workers() ORDER BY random() LIMIT 1');
	kill 'KILL', $pid if $pid;
}
my ($good, $errors) = (0, '');
for (@sessions)
{
	my ($rc, $out, $err) = end_sql($_);
	$good += () = $out =~ /^good$/mg;
	$errors .= $err;
}
my $lost = () = $errors =~ /the engine died twice on this request/g;
my $crashes = grep { /ERROR/ && !/dsocr.timeout|died twice/ } split /\n/, $errors;
is($crashes, 0, 'no other error');
cmp_ok($good, '>', $expected * 0.9, "$good of $expected good pages were read, $lost failed with their engine");
is_at_baseline($both, 'after the turmoil');
ok(wait_for_ready($both), 'both devices are ready');
server_is_same($both, $started, 'server was not restarted');
$both->stop;

# No room for the second worker.
my $node = new_server('pair', no_wait => 1, conf => <<'END');
dsocr.devices = 'cpu, cpu'
dsocr.model = '/nonexistent/model'
max_logical_replication_workers = 0
max_worker_processes = 1
END
like(slurp_file($node->logfile), qr/too many background workers/, 'the second worker finds no room');
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM t.workers() WHERE state = 'failed'");
my ($rc, $out, $err) = $node->psql('postgres', "SET statement_timeout = '25s'; " . reading('text=x'));
like($err, qr/could not open model folder/, 'a request fails with the reason of the device that is there');
is_at_baseline($node, 'nothing is left');

$node->append_conf('postgresql.conf', "dsocr.model = ''\n");
$node->reload;
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM t.workers() WHERE state = 'ready'");
is($node->safe_psql('postgres', reading('text=one')), 'one', 'one device is enough');
$node->stop;
done_testing();
