# Cancel, statement_timeout, dsocr.timeout, terminate and vanished clients at
# random times: slots and memory come back exactly.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

stub_environment('slots=6');
my $node = new_server('cancel', conf => <<'END');
dsocr.max_requests = 12
max_connections = 60
END
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

srand(4711);

# 400 statements in 8 sessions, each stopped by a timeout of its own.
my @sessions;
for my $s (1 .. 8)
{
	my $sql = "SET dsocr.queue_timeout = 0;\n";
	for (1 .. 50)
	{
		my $limit = 1 + int(rand(60));
		my $setting = rand() < 0.5 ? 'statement_timeout' : 'dsocr.timeout';
		$sql .= "SET $setting = $limit; " . reading('sleep=' . (rand() < 0.8 ? 5 : 0.02) . ';progress=9')
		  . "; RESET $setting;\n";
	}
	push @sessions, begin_sql($node, $sql . "SELECT 'through';\n", go_on => 1);
}
my $errors = '';
for (@sessions)
{
	my ($rc, $out, $err) = end_sql($_);
	like($out, qr/through$/, 'session went through its 50 statements');
	$errors .= $err;
}
my $cancelled = () = $errors =~ /ERROR:  canceling (statement|request) due to/g;
my $other = join "\n", grep { /ERROR/ && !/canceling (statement|request) due to/ } split /\n/, $errors;
is($other, '', 'no other error');
cmp_ok($cancelled, '>=', 200, "$cancelled statements were cancelled");
is_at_baseline($node, 'after timeouts');

# 100 sessions cancelled, terminated, or whose client goes away.
my $n = 0;
for my $round (1 .. 10)
{
	my @readers = map {
		begin_sql($node, "SET client_connection_check_interval = 50; SET dsocr.queue_timeout = 0; "
			. reading('sleep=30'))
	} 1 .. 10;
	usleep(int(rand(200_000)));
	for my $reader (@readers)
	{
		my $way = int(rand(3));
		if ($way == 0)
		{
			$reader->{run}->signal('INT');
		}
		elsif ($way == 1)
		{
			$reader->{run}->signal('KILL');
		}
	}
	wait_until(sub {
		$node->safe_psql('postgres', "SELECT count(pg_terminate_backend(pid))
			FROM pg_stat_activity WHERE query LIKE '%sleep=30%' AND pid <> pg_backend_pid()") eq '0';
	});
	for my $reader (@readers)
	{
		eval { $reader->{run}->finish };
		$n++;
	}
}
is($n, 100, 'sessions were stopped');
is_at_baseline($node, 'after the end of sessions');
is($node->safe_psql('postgres', reading('text=still here')), 'still here', 'reads');
server_is_same($node, $started, 'server was not restarted');
$node->stop;
done_testing();
