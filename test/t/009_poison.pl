# Images that kill, hang or confuse the engine fail alone; neighbours get their
# text.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

stub_environment('slots=16');
my $node = new_server('poison', conf => 'dsocr.engine_timeout = 3s');
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

# One poisoned page among eight good ones.
for my $poison ('crash', 'exit=3', 'garbage-frame', 'half-frame', 'failed-frame', 'hang')
{
	# The good ones are inside the engine when the poison acts.
	my $pid = engine_pid($node);
	kill 'STOP', $pid;
	my @good = map { begin_sql($node, reading("sleep=0.2;text=good $_")) } 1 .. 8;
	my $bad = begin_sql($node, "\\set VERBOSITY verbose\n" . reading("sleep=0.1;$poison"));
	$node->poll_query_until('postgres',
		"SELECT count(*) = 9 FROM t.requests() WHERE state = 'running'");
	kill 'CONT', $pid;

	my ($rc, $out, $err) = end_sql($bad);
	like($err, qr/58000.*the engine died twice on this request.*HINT/s, "$poison: fails, with a HINT");
	for my $i (1 .. 8)
	{
		is(join(' ', (end_sql($good[ $i - 1 ]))[ 0, 1 ]), "0 good $i", "$poison: neighbour $i reads");
	}
	is_at_baseline($node, "$poison: nothing is left");
}
like(slurp_file($node->logfile), qr/did not answer within dsocr.engine_timeout/, 'the hang was logged');
like(slurp_file($node->logfile), qr/does not keep to the protocol/, 'the garbage was logged');

# A poison that is cancelled is nobody's trouble.
my $pid = engine_pid($node);
my ($rc, $out, $err) = $node->psql('postgres', "SET dsocr.timeout = 200; " . reading('hang'));
like($err, qr/dsocr.timeout/, 'a hanging page times out');
is($node->safe_psql('postgres', reading('text=next')), 'next', 'the next page is read');
isnt(engine_pid($node), $pid, 'by another engine');
is_at_baseline($node, 'nothing is left after the timeout');

# An engine that works but does not let go of a cancelled request is replaced.
$pid = engine_pid($node);
my $steady = begin_sql($node, reading('sleep=4;progress=40;text=steady'));
($rc, $out, $err) = $node->psql('postgres',
	"SET dsocr.timeout = 200; " . reading('sleep=60;ignore-cancel;progress=600'));
like($err, qr/dsocr.timeout/, 'a deaf page times out');
is((end_sql($steady))[1], 'steady', 'its neighbour reads');
ok(wait_until(sub { !alive($pid) }), 'the deaf engine is replaced');
is_at_baseline($node, 'nothing is left of the deaf page');

# Errors of the engine pass through with their codes.
my %state = (1 => '22P03', 2 => '22023', 3 => '54000', 5 => '53200', 7 => '58000');
for my $code (sort keys %state)
{
	($rc, $out, $err) =
	  $node->psql('postgres', "\\set VERBOSITY verbose\n" . reading("error=$code:because $code"));
	like($err, qr/$state{$code}: .*because $code/, "error $code is $state{$code}");
}

# Many crashes in a row do not make good pages wait.
for my $i (1 .. 6)
{
	$node->psql('postgres', reading('sleep=0;crash'));
	my $start = time;
	is($node->safe_psql('postgres', reading('text=ok')), 'ok', "after crash $i: reads");
	cmp_ok(time - $start, '<', 15, "after crash $i: soon");
}
server_is_same($node, $started, 'server was not restarted');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;

# The blank page that an engine reads after the death of another one: one that hangs on it is
# given up, one that dies on it says nothing about the request behind it.
my $go = $node->basedir . '/go';
my $dead = $node->basedir . '/dead';
stub_environment("until=$go");
$node->start;
wait_for_ready($node);
is($node->safe_psql('postgres', reading('text=before')), 'before', 'the first engine has none to read');
my $log = -s $node->logfile;
kill 'KILL', engine_pid($node);
my $patient = begin_sql($node, 'SET dsocr.timeout = 0; ' . reading('text=patient'));
ok(wait_until(sub { substr(slurp_file($node->logfile), $log) =~ /did not answer within dsocr.engine_timeout/ }, 60), 'an engine hangs on it');
append_to_file($go, '');
my ($rc, $out) = end_sql($patient);
is("$rc $out", '0 patient', 'and the request is read by another one');
$node->stop;

stub_environment("crash-once=$dead");
$node->start;
wait_for_ready($node);
kill 'KILL', engine_pid($node);
is($node->safe_psql('postgres', reading('text=innocent')), 'innocent', 'an engine that dies on it has no other to blame');
ok(-e $dead, 'it died');
$node->stop;
done_testing();
