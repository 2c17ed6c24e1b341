# DROP and CREATE DATABASE return at once while the engine loads, runs, hangs.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

stub_environment('slow-load=3');
my $node = new_server('databases', no_wait => 1);
my $busy = begin_sql($node, 'SET dsocr.timeout = 40000; ' . reading('sleep=3;progress=50;text=done'));

# The way it is done must not take longer than the promise.
sub drop_and_create
{
	my ($when, $times) = @_;

	for (1 .. $times)
	{
		my $start = time;
		$node->safe_psql('postgres', 'CREATE DATABASE victim');
		$node->safe_psql('victim', 'CREATE EXTENSION dsocr');
		my $created = time;
		$node->safe_psql('postgres', 'DROP DATABASE victim');
		my $took = time - $created;
		cmp_ok($took, '<', 15, sprintf('%s: dropped in %.2f s', $when, $took));
		note(sprintf('%s: created in %.2f s', $when, $created - $start));
	}
	return;
}

my $state = sub { $node->safe_psql('postgres', 'SELECT state FROM t.workers()') };
is($state->(), 'starting', 'engine is loading');
drop_and_create('loading', 3);

wait_for_ready($node);
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM t.requests() WHERE state = 'running'");
drop_and_create('running', 3);
my ($rc, $out) = end_sql($busy);
is($out, 'done', 'the reader was not disturbed');

my $hung = begin_sql($node, reading('hang'));
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM t.requests() WHERE state = 'running'");
drop_and_create('hanging', 3);

# A reader in the way has to be ended, and then it is.
$node->safe_psql('postgres', 'CREATE DATABASE victim');
$node->safe_psql('victim', 'CREATE EXTENSION dsocr');
my $inside = begin_sql($node, reading('hang'), db => 'victim');
$node->poll_query_until('postgres',
	"SELECT count(*) = 2 FROM t.requests() WHERE state IN ('running', 'queued')");
my $start = time;
$node->safe_psql('postgres', 'DROP DATABASE victim WITH (FORCE)');
my $took = time - $start;
cmp_ok($took, '<', 15, 'dropped with a reader inside');
($rc) = end_sql($inside);
isnt($rc, 0, 'whose session has ended');

$node->stop('immediate');
done_testing();
