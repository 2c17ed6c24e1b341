# Engines that do not start: never stuck, never silent, well again by themselves
# or by a reload.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;

sub state_of
{
	my ($node) = @_;
	return $node->safe_psql('postgres', 'SELECT state FROM t.workers()');
}

sub error_of
{
	my ($node, $sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return $err;
}

# A model folder that is not there.
my $node = new_server('start', no_wait => 1, conf => "dsocr.model = '/nonexistent/model'");
$node->poll_query_until('postgres', "SELECT state = 'failed' FROM t.workers()");
my $err = error_of($node, reading('text=x'));
like($err, qr/58P01/, 'a missing model is 58P01');
like($err, qr/could not open model folder.*HINT: .*dsocr_reload/s, 'with the reason of the engine and what to do');
ok($node->poll_query_until('postgres', 'SELECT engine_pid IS NULL FROM t.workers()'), 'no engine');
my $pid = $node->safe_psql('postgres', 'SELECT pid FROM t.workers()');
my $log = slurp_file($node->logfile);
my $count = () = $log =~ /dsocr worker cpu: could not open model folder/g;
is($count, 1, 'the reason is logged once');

# The same by SIGHUP with nothing changed, then with another folder.
$node->reload;
$node->poll_query_until('postgres', "SELECT state = 'failed' FROM t.workers()");
my $model = $node->basedir . '/model-a';
$node->append_conf('postgresql.conf', "dsocr.model = '$model'");
$node->reload;
ok(wait_for_ready($node), 'SIGHUP with a good folder');
is($node->safe_psql('postgres', reading('text=good')), 'good', 'reads');
is($node->safe_psql('postgres', 'SELECT pid FROM t.workers()'), $pid, 'the worker is the same');

# The folder vanishes and comes back; dsocr_reload looks again.
rename $model, "$model.away" or die;
$node->safe_psql('postgres', 'SELECT t.reload()');
ok($node->poll_query_until('postgres', "SELECT state = 'failed' FROM t.workers()"), 'failed');
like(error_of($node, reading('text=x')), qr/could not open model folder/, 'refuses at once');
rename "$model.away", $model or die;
$node->safe_psql('postgres', 'SELECT t.reload()');
ok(wait_for_ready($node), 'ready after a reload');
$node->stop;

# Crashes while loading, once: nobody notices.
stub_environment('load-crash-once=' . $node->basedir . '/crashed');
$node->start;
is($node->safe_psql('postgres', reading('text=patient')), 'patient', 'reads after a crash at load');
$node->stop;

# Crashes at every start: requests are refused after a while, with the reason.
stub_environment('load-crash');
$node->start;
my $start = time;
$err = error_of($node, reading('text=x'));
like($err, qr/58000.*the engine was terminated by signal 11/s, 'refused with the reason');
cmp_ok(time - $start, '<', 30, 'within 30 s');
is(state_of($node), 'degraded', 'state is degraded');
$node->stop;

# Hangs while loading: replaced again and again, requests refused in the end.
stub_environment('load-hang');
$node->append_conf('postgresql.conf', 'dsocr.engine_timeout = 200ms');
$node->start;
like(error_of($node, reading('text=x')), qr/58000/, 'refused when loading hangs');
like(slurp_file($node->logfile), qr/did not become ready within dsocr.engine_timeout/, 'logged');
$node->stop;
$node->append_conf('postgresql.conf', 'dsocr.engine_timeout = 2min');

# A program that is not there, and one that is none.
stub_environment('');
$node->append_conf('postgresql.conf', "dsocr.engine_path = '/nonexistent/engine'");
$node->start;
like(error_of($node, reading('text=x')),
	qr/58P01.*could not run the engine "\/nonexistent\/engine".*HINT/s, 'no program');
$node->stop;

# Its name is cut off in the message, but not inside of a character.
$node->append_conf('postgresql.conf', "dsocr.engine_path = '/tmp/" . ("\xc3\xa9" x 100) . "'");
$node->start;
$node->poll_query_until('postgres', "SELECT error ~ 'could not run' FROM t.workers()");
is($node->safe_psql('postgres',
		"SELECT convert_from(convert_to(error, 'UTF8'), 'UTF8') = error FROM t.workers()"),
	't', 'the message is valid text');
$node->stop;
my $bad = $node->basedir . '/bad-engine';
append_to_file($bad, "not a program\n");
chmod 0755, $bad;
$node->append_conf('postgresql.conf', "dsocr.engine_path = '$bad'");
$node->start;
like(error_of($node, reading('text=x')), qr/the engine could not be executed/, 'no executable');

# It appears: used within the longest pause.
unlink $bad;
symlink $ENV{DSOCR_STUB_ENGINE}, $bad;
$node->safe_psql('postgres', 'SELECT t.reload()');
ok(wait_for_ready($node), 'ready when the program is there');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
