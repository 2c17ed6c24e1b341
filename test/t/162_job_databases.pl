# Runners stand in the way of nobody: DROP, RENAME, TEMPLATE, many databases, few processes.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

stub_environment('latency=0');
my $node = new_server('job_databases', conf => "dsocr.runner_idle_timeout = 60s\nmax_worker_processes = 5\nautovacuum = off");
my $queue = 'SELECT count(*) FROM dsocr.job_queue';

sub create
{
	my ($db) = @_;
	sql($node, "CREATE DATABASE $db");
	sql($node, 'CREATE EXTENSION dsocr', db => $db);
	return;
}

sub took
{
	my ($what, $command) = @_;
	my $start = time;
	sql($node, $command);
	my $seconds = time - $start;
	return cmp_ok($seconds, '<', 15, sprintf('%s in %.2f s', $what, $seconds));
}

# while jobs run, and while the runner waits for more
for my $sleep (60, 0)
{
	create('victim');
	sql($node, 'SELECT count(dsocr_enqueue(' . image("sleep=$sleep;text=x") . ')) FROM generate_series(1, 50)', db => 'victim');
	$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = 'victim' AND backend_type = 'dsocr job runner'");
	took("copied with jobs of $sleep s", 'CREATE DATABASE copy TEMPLATE victim');
	$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = 'victim' AND backend_type = 'dsocr job runner'") if $sleep;
	took('renamed', 'ALTER DATABASE victim RENAME TO renamed');
	took('dropped', 'DROP DATABASE renamed');
	sql($node, 'DROP DATABASE copy');
}
is_at_baseline($node, 'requests of dropped databases are gone');

# a user's trigger that sleeps does not hold it up either
create('victim');
sql($node, q{CREATE TABLE scan (id int PRIMARY KEY, image bytea, body text);
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END';
	CREATE TRIGGER slow BEFORE UPDATE ON scan FOR EACH ROW EXECUTE FUNCTION slow();
	SELECT dsocr_attach('scan', 'image', 'body'); INSERT INTO scan VALUES (1, 'STUB:text=x')}, db => 'victim');
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = 'victim' AND wait_event = 'PgSleep'");
took('dropped with a sleeping trigger', 'DROP DATABASE victim');

# more databases than runners, and than processes
create("many$_") for 1 .. 5;
sql($node, 'SELECT count(dsocr_enqueue(' . image('text=x') . ')) FROM generate_series(1, 20)', db => "many$_") for 1 .. 5;
for my $i (1 .. 5)
{
	ok(wait_until(sub { sql($node, $queue, db => "many$i") eq '0' }, 60), "database $i was served");
}

# after a restart jobs are found; templates and closed databases are left alone
sql($node, 'ALTER SYSTEM SET dsocr.run_jobs = off');
sql($node, 'SELECT pg_reload_conf()');
sql($node, 'SELECT dsocr_enqueue(' . image('text=later') . ')', db => 'many3');
sql($node, 'SELECT dsocr_enqueue(' . image('text=never') . ')', db => 'many4');
sql($node, 'ALTER DATABASE many4 IS_TEMPLATE true');
sql($node, 'ALTER DATABASE many5 ALLOW_CONNECTIONS false');
sql($node, 'ALTER SYSTEM RESET dsocr.run_jobs');
$node->restart;
ok(wait_until(sub { sql($node, $queue, db => 'many3') eq '0' }, 30), 'found after a restart');
is(sql($node, $queue, db => 'many4'), '1', 'a template is left alone');
unlike(log_of($node), qr/not currently accepting connections/, 'nobody knocks at closed doors');

# dropping the extension under a runner
sql($node, 'SELECT count(dsocr_enqueue(' . image('sleep=1;text=x') . ')) FROM generate_series(1, 50)', db => 'many3');
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = 'many3' AND backend_type = 'dsocr job runner'");
took('extension dropped', 'SELECT 1');
sql($node, 'DROP EXTENSION dsocr', db => 'many3');
ok(wait_until(sub { sql($node, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'many3'") eq '0' }, 30), 'its runner ends');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
