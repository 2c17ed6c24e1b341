# The worker needs no extension: it idles in silence, whatever is dropped.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_server('bare');
my $worker = $node->safe_psql('postgres', 'SELECT pid FROM t.workers()');

for my $round (1 .. 10)
{
	$node->safe_psql('postgres', "CREATE DATABASE other; ");
	$node->safe_psql('other', 'CREATE SCHEMA s; CREATE EXTENSION dsocr SCHEMA s');
	is($node->safe_psql('other', "SELECT s.dsocr_generate(" . image("text=r$round") . ", 'x')"),
		"r$round", "round $round: second database reads");
	$node->safe_psql('other', 'DROP EXTENSION dsocr CASCADE');
	$node->safe_psql('postgres', 'DROP EXTENSION dsocr CASCADE; CREATE EXTENSION dsocr')
	  if $round % 3 == 0;
	$node->safe_psql('postgres', 'DROP DATABASE other');
}

my $size = -s $node->logfile;
usleep(7_000_000);
my $said = substr(slurp_file($node->logfile), $size);
unlike($said, qr/dsocr/, 'the worker is silent');
is($node->safe_psql('postgres', 'SELECT pid FROM t.workers()'), $worker, 'and still the same');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dsocr worker cpu' AND pid = $worker"),
	1, 'it is in pg_stat_activity');

# The worker itself ends: another comes, with an engine of its own.
my $engine = engine_pid($node);
my $reader = begin_sql($node, reading('sleep=1;text=moved on'));
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM t.requests() WHERE state = 'running'");
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
ok(wait_until(sub { !alive($engine) }), 'the engine ends with its worker');
my ($rc, $out) = end_sql($reader);
is("$rc $out", '0 moved on', 'the request moved to the next worker');
isnt($node->safe_psql('postgres', 'SELECT pid FROM t.workers()'), $worker, 'a new worker');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
