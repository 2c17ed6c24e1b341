# Equal requests in flight are read once, whatever becomes of the first.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('joined', cache => "'1MB'", conf => 'dsocr.max_requests = 8');

sub used { return sql($node, 'SELECT slots_used FROM t.status()'); }
sub running { return $node->poll_query_until('postgres', "SELECT count(*) > 0 FROM t.requests() WHERE state = 'running'"); }

# Twenty sessions, eight slots, one reading.
sql($node, 'SELECT t.reset()');
my $first = begin_sql($node, reading('sleep=2;text=shared'));
running();
my @others = map { begin_sql($node, reading('sleep=2;text=shared')) } 1 .. 20;
select undef, undef, undef, 1;
is(used(), 1, 'they hold one slot');
is(join(',', map { (end_sql($_))[1] } $first, @others), join(',', ('shared') x 21), 'all have the answer');
is(sql($node, "SELECT sum(completed) || ' ' || sum(cache_hits) FROM t.stats()"), '1 20', 'one reading');

# The first gives up: the next takes over.
sql($node, 'SELECT t.reset()');
$first = begin_sql($node, "SET statement_timeout = '1s'; " . reading('sleep=2;text=left'));
running();
@others = map { begin_sql($node, reading('sleep=2;text=left')) } 1 .. 5;
isnt((end_sql($first))[0], 0, 'the first is cancelled');
is(join(',', map { (end_sql($_))[1] } @others), join(',', ('left') x 5), 'the others have the answer');
cmp_ok(sql($node, 'SELECT sum(completed) FROM t.stats()'), '<=', 2, 'with one more reading, or its own');

# The first is killed.
$first = begin_sql($node, reading('sleep=3;text=killed'), go_on => 1);
running();
@others = map { begin_sql($node, reading('sleep=3;text=killed')) } 1 .. 2;
sql($node, 'SELECT pg_terminate_backend(pid) FROM t.requests()');
is(join(',', map { (end_sql($_))[1] } @others), 'killed,killed', 'the others have the answer');
end_sql($first);

# It fails: everybody learns that.
$first = begin_sql($node, reading('sleep=1;error=1:not an image'));
running();
@others = map { begin_sql($node, reading('sleep=1;error=1:not an image')) } 1 .. 5;
my $start = time;
like((end_sql($_))[2], qr/not an image/, 'fails') for $first, @others;
cmp_ok(time - $start, '<', 5, 'not one after the other');

# Patience is each session's own.
$first = begin_sql($node, reading('sleep=3;text=slow'));
running();
my (undef, undef, $error) = end_sql(begin_sql($node, "SET dsocr.timeout = '500ms'; " . reading('sleep=3;text=slow')));
like($error, qr/dsocr\.timeout/, 'dsocr.timeout of one that was joined');
is((end_sql($first))[1], 'slow', 'the first goes on');

# Twice in one session, in a subtransaction that is rolled back.
is(sql($node, 'SELECT count(dsocr_text(img)) FROM (SELECT ' . image('sleep=0.5;text=own') . ' AS img FROM generate_series(1, 50)) s'),
	50, 'fifty times in one query');
is_at_baseline($node, 'nothing is left in use');

done_testing;
