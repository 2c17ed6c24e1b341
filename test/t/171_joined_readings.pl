# Equal requests in flight are read once, whatever becomes of the first.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('joined', cache => "'1MB'", conf => 'dsocr.max_requests = 8');
my $counts = "SELECT sum(completed) || ' ' || sum(cache_hits) FROM t.stats()";
my $used = 'SELECT slots_used FROM t.status()';

# A reading that ends when its file is there; the first session, and others that wait for it.
my $folder = $node->basedir;
sub held { return reading("until=$folder/$_[0];text=$_[0]"); }
sub let_go { return append_to_file("$folder/$_[0]", ''); }
sub first
{
	my ($name, %option) = @_;
	sql($node, 'SELECT t.reset()');
	my $first = begin_sql($node, ($option{set} // '') . held($name), %option);
	$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM t.requests() WHERE state = 'running'");
	return $first;
}
sub others
{
	my ($name, $n) = @_;
	my @others = map { begin_sql($node, held($name)) } 1 .. $n;
	waiting($node, $n + 1, "text=$name");
	return @others;
}
sub answers { return join ',', map { (end_sql($_))[1] } @_; }

# Twenty sessions, eight slots, one reading.
my $first = first('shared');
my @others = others('shared', 20);
is(sql($node, $used), 1, 'they hold one slot');
my $joined = q{SELECT count(*) FROM t.requests() AS j JOIN t.requests() AS r ON j.slot = r.slot AND j.waits_for = r.pid
	WHERE j.state = 'joined' AND r.state = 'running' AND j.pid <> r.pid AND j.task = r.task AND j.age <= r.age AND j.device IS NULL};
ok($node->poll_query_until('postgres', $joined, 20), 'and are shown with whom they wait for');
let_go('shared');
is(answers($first, @others), join(',', ('shared') x 21), 'all have the answer');
is(sql($node, $counts), '1 20', 'one reading');

# Whose request it is that one waits for is shown to who may know.
sql($node, 'CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_read_all_stats TO watcher');
$first = first('roles', user => 'alice');
@others = begin_sql($node, held('roles'), user => 'bob');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM dsocr.requests WHERE state = 'joined'}), 'a session of another role');
my %seen = (
	alice => 'joined: ; running: slot pid alice postgres generate',
	bob => 'joined: pid bob postgres generate; running: slot',
	watcher => 'joined: slot pid bob postgres generate for; running: slot pid alice postgres generate');
for my $who (sort keys %seen)
{
	is(sql($node, q{SELECT string_agg(state || ': ' || concat_ws(' ', CASE WHEN slot IS NOT NULL THEN 'slot' END, CASE WHEN pid IS NOT NULL THEN 'pid' END,
		role, database, task, CASE WHEN waits_for IS NOT NULL THEN 'for' END), '; ' ORDER BY state) FROM dsocr.requests}, user => $who), $seen{$who}, "what $who sees");
}
let_go('roles');
is(answers($first, @others), 'roles,roles', 'both have the answer');
is(sql($node, 'SELECT count(*) FROM dsocr.requests'), 0, 'and nothing is shown any more');

# The first is cancelled, runs out of time, is terminated, loses its client: another takes over.
for my $how (qw(cancelled late terminated gone))
{
	$first = first($how, go_on => 1, set => $how eq 'late' ? "SET statement_timeout = '10s'; " : "SET client_connection_check_interval = '50ms'; ");
	@others = others($how, 5);
	sql($node, "SELECT pg_cancel_backend(pid) FROM t.requests() WHERE state = 'running'") if $how eq 'cancelled';
	sql($node, "SELECT pg_terminate_backend(pid) FROM t.requests() WHERE state = 'running'") if $how eq 'terminated';
	$first->{run}->signal('KILL') if $how eq 'gone';
	isnt((end_sql($first))[1], $how, "the first is $how");
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM t.requests() WHERE state = 'running'"), 'one of the others reads');
	waiting($node, 5, "text=$how");
	is(sql($node, $used), 1, 'the rest wait for that one');
	let_go($how);
	is(answers(@others), join(',', ($how) x 5), 'and all have the answer');
	is(sql($node, $counts), '1 4', 'of one reading');
}

# Who waits for another can be cancelled, and has patience of its own.
$first = first('slow');
@others = others('slow', 2);
sql($node, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%text=slow%' AND pid IN (SELECT pid FROM t.requests() WHERE state = 'joined') AND pid <> pg_backend_pid()");
like((end_sql($_))[2], qr/canceling statement due to user request/, 'one that waits is cancelled') for @others;
for my $limit ('dsocr.timeout', 'statement_timeout')
{
	my (undef, undef, $error) = end_sql(begin_sql($node, "SET $limit = '500ms'; " . held('slow')));
	like($error, $limit eq 'dsocr.timeout' ? qr/dsocr\.timeout/ : qr/statement timeout/, "$limit of one that waits");
}
is(sql($node, $used), 1, 'the first goes on');
let_go('slow');
is((end_sql($first))[1], 'slow', 'to its end');

# It fails: everybody learns that, not one after the other.
my $fails = reading("until=$folder/fails;error=1:not an image");
@others = map { begin_sql($node, $fails) } 1 .. 6;
waiting($node, 6, 'fails');
sql($node, 'SELECT t.reset()');
let_go('fails');
like((end_sql($_))[2], qr/not an image/, 'fails') for @others;
cmp_ok(sql($node, 'SELECT sum(failed) FROM t.stats()'), '>=', 2, 'a failure is nobody else\'s');

# The engine dies: the request is read again, for all.
$first = begin_sql($node, reading("until=$folder/died;crash-once=$folder/crashed;text=died"));
@others = map { begin_sql($node, reading("until=$folder/died;crash-once=$folder/crashed;text=died")) } 1 .. 3;
waiting($node, 4, 'text=died');
let_go('died');
is(answers($first, @others), join(',', ('died') x 4), 'all have the answer after the engine has died');

# Often in one session, in a subtransaction that is rolled back.
is(sql($node, 'SELECT count(dsocr_text(img)) FROM (SELECT ' . image('sleep=0.5;text=own') . ' AS img FROM generate_series(1, 50)) s'),
	50, 'fifty times in one query');
like(sql($node, 'DO $$ BEGIN BEGIN PERFORM dsocr_text(' . image('sleep=0.1;text=sub') . '); RAISE EXCEPTION \'no\'; EXCEPTION WHEN raise_exception THEN NULL; END; END $$; SELECT dsocr_text(' . image('sleep=0.1;text=sub') . ')'),
	qr/^sub$/, 'after an aborted subtransaction');
is_at_baseline($node, 'nothing is left in use');

# A backend that is killed takes all with it, and the server comes back with an empty cache.
$first = first('killed', go_on => 1);
@others = others('killed', 2);
kill 'KILL', sql($node, q{SELECT pid FROM t.requests() WHERE state = 'running'});
end_sql($_) for $first, @others;
ok($node->poll_query_until('postgres', 'SELECT cache_entries = 0 FROM t.status()'), 'the server is there again, and nothing is kept');
wait_for_ready($node);
let_go('killed');
is(sql($node, held('killed')), 'killed', 'it reads');
is_at_baseline($node, 'nothing is left in use');

done_testing;
