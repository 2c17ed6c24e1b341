# Queue full, role limit, memory and time limits: the right error, and a HINT.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

stub_environment('slots=2');
my $node = new_server('limits', conf => <<'END');
dsocr.max_requests = 4
dsocr.queue_memory = 8MB
max_connections = 80
END

sub error_of
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return $err;
}

# Queue full: wait for a place, then say so.
my @full = map { begin_sql($node, reading('sleep=4;text=full')) } 1 .. 4;
$node->poll_query_until('postgres', 'SELECT slots_used = 4 FROM t.status()');
my $start = time;
my $err = error_of("SET dsocr.queue_timeout = '300ms'; " . reading('text=x'));
like($err, qr/53400.*all 4 request slots of dsocr are in use.*HINT/s, 'queue full');
cmp_ok(time - $start, '>=', 0.3, 'after dsocr.queue_timeout');
like(error_of("SET dsocr.timeout = '200ms'; " . reading('text=x')),
	qr/57014.*dsocr.timeout/s, 'dsocr.timeout counts the wait');
like(error_of("SET statement_timeout = '200ms'; " . reading('text=x')),
	qr/57014.*statement timeout/s, 'statement_timeout counts it too');
is($node->safe_psql('postgres', reading('text=patient')), 'patient', 'with patience it reads');
is(join(' ', (end_sql($_))[ 0, 1 ]), '0 full', 'those before were not disturbed') for @full;

# Sixty sessions for four slots: all get their turn.
my @many = map { begin_sql($node, reading("sleep=0.02;text=turn $_")) } 1 .. 60;
is(join(' ', (end_sql($many[ $_ - 1 ]))[ 0, 1 ]), "0 turn $_", "session $_ got its turn") for 1 .. 60;
is_at_baseline($node, 'after the crowd');

# Role limit.
$node->safe_psql('postgres', <<'END');
CREATE ROLE small LOGIN;
ALTER ROLE small SET dsocr.max_requests_per_role = 1;
GRANT USAGE ON SCHEMA t TO small;
END
my $first = begin_sql($node, reading('sleep=2;text=first'), user => 'small');
$node->poll_query_until('postgres', 'SELECT slots_used = 1 FROM t.status()');
my ($rc, $out, $second) =
  end_sql(begin_sql($node, "\\set VERBOSITY verbose\n" . reading('text=x'), user => 'small'));
like($second, qr/53400.*role has reached its limit of 1 dsocr requests.*HINT/s, 'role limit');
is($node->safe_psql('postgres', reading('text=other role')), 'other role', 'others may');
($rc, $out, $err) = end_sql(begin_sql($node, 'SET dsocr.max_requests_per_role = 5', user => 'small'));
like($err, qr/permission denied/, 'a role cannot lift its own limit');
is((end_sql($first))[1], 'first', 'the first request of the role');

# Memory: more than there is, then more than is free.
my $big = "convert_to('STUB:%s;text=big' || repeat(' ', %d), 'UTF8')";
$err = error_of("SELECT dsocr_generate(" . sprintf($big, 'sleep=0', 9_000_000) . ", 'x')");
like($err, qr/53200.*no room for an image of \d+ bytes.*HINT.*dsocr.queue_memory/s, 'too large');
my $holder = begin_sql($node, 'SELECT left(dsocr_generate(' . sprintf($big, 'sleep=2', 5_000_000) . ", 'x'), 3)");
$node->poll_query_until('postgres', 'SELECT queue_memory_used > 5000000 FROM t.status()');
$err = error_of("SET dsocr.queue_timeout = '200ms'; SELECT dsocr_generate("
	  . sprintf($big, 'sleep=0', 5_000_000) . ", 'x')");
like($err, qr/53200.*HINT/s, 'no memory within dsocr.queue_timeout');
is($node->safe_psql('postgres', reading('text=small')), 'small', 'a small one fits');
is($node->safe_psql('postgres',
		'SELECT left(dsocr_generate(' . sprintf($big, 'sleep=0', 5_000_000) . ", 'x'), 3)"),
	'big', 'memory comes back to who waits');
is((end_sql($holder))[1], 'big', 'the holder');
is($node->safe_psql('postgres', 'SELECT length(' . reading('big=1000000') =~ s/SELECT//r . ')'),
	1000000, 'a large result');
is_at_baseline($node, 'nothing is left in the queue');

# Settings.
for my $bad ("dsocr.no_repeat_ngram = '30'", "dsocr.no_repeat_ngram = '-1, 90'", "dsocr.no_repeat_ngram = '4294967326, 90'",
	"dsocr.mode = 'huge'", "dsocr.timeout = -1", "dsocr.nonsense = 1", "dsocr.model = '/tmp'",
	"dsocr.devices = 'cpu'")
{
	like(error_of("SET $bad"), qr/ERROR/, "SET $bad is refused");
}
for my $bad ("dsocr.model = 'relative/path'", "dsocr.model = '/tmp/../etc'", "dsocr.devices = 'a b'")
{
	like(error_of("ALTER SYSTEM SET $bad"), qr/ERROR.*invalid value/s, "ALTER SYSTEM $bad is refused");
}
is($node->safe_psql('postgres', "SET dsocr.no_repeat_ngram = ' 20,50 '; SHOW dsocr.no_repeat_ngram"),
	' 20,50 ', 'n-gram rule');
$node->stop;
done_testing();
