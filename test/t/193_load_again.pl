# Loads that are interrupted go on where they were; nothing is there twice.
use strict;
use warnings;

use Dsocr;
use DsocrLoad;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my $node = new_server('load_again', conf => 'dsocr.run_jobs = off');
plan(skip_all => 'built without libpq') unless can_load();
my $dir = PostgreSQL::Test::Utils::tempdir_short() . '/in';
my $n = 1000;
put($dir, sprintf('%d/%04d.png', $_ % 7, $_), document("text=$_")) for 1 .. $n;

# slow enough to be caught
sql($node, q{CREATE TABLE scan (path text PRIMARY KEY, image bytea NOT NULL);
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END$$;
	CREATE TRIGGER slow BEFORE INSERT ON scan FOR EACH ROW EXECUTE FUNCTION slow()});
my @options = ('--table', 'scan', '--batch-rows', 20, '--lines', 1, $dir);
my $count = sub { sql($node, 'SELECT count(*) FROM scan') };
my $more = sub { my ($rows) = @_; return wait_until(sub { $count->() >= $rows }, 60); };

# asked to end: what is in hand is committed, and said
my $load = begin_load($node, @options);
ok($more->(40), 'it loads');
kill_load($load, 'INT');
is(end_load($load), 130, 'SIGINT: ended by it');
my $rows = $count->();
like(load_log($load), qr/^loaded $rows files,.*interrupted; the same command goes on/s, "all $rows files of the sum are there");
cmp_ok($rows, '<', $n, 'and not all');

$load = begin_load($node, @options);
ok($more->($rows + 40), 'it goes on');
kill_load($load, 'TERM');
is(end_load($load), 143, 'SIGTERM too');
$rows = $count->();
like(load_log($load), qr/^loaded (\d+) files/m, 'with a sum');

# killed: what was committed is there
$load = begin_load($node, @options);
ok($more->($rows + 40), 'it goes on');
kill_load($load, 'KILL');
is(end_load($load), 'signal 9', 'SIGKILL');
wait_until(sub { sql($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()}) eq '0' });
$rows = $count->();
cmp_ok($rows % 20, '==', $count->() % 20, 'rows stay');

# the second signal does not wait, not even for a lock
my $lock = begin_sql($node, 'BEGIN; LOCK TABLE scan IN SHARE MODE; SELECT pg_sleep(60)');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE mode = 'ShareLock' AND relation = 'scan'::regclass AND granted});
$load = begin_load($node, @options);
$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_locks WHERE relation = 'scan'::regclass AND NOT granted});
kill_load($load, 'INT');
kill_load($load, 'TERM') if wait_until(sub { kill_load($load, 0) }, 1);
is(wait_until(sub { !alive($load->{pid}) }, 20) ? 'ended' : 'waits', 'ended', 'two signals end it at once');
like(end_load($load), qr/^(130|143)$/, 'with the status of a signal');
sql($node, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
end_sql($lock);
is($count->(), $rows, 'nothing came of it');

# the session is ended
$load = begin_load($node, @options);
ok($more->($rows + 20), 'it goes on');
sql($node, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()});
is(end_load($load), 3, 'a session that is gone is trouble with the database');
like(load_log($load), qr/terminating connection|server closed the connection/, 'and said');

# two at once, to the end
sql($node, 'DROP TRIGGER slow ON scan');
my @both = map { begin_load($node, @options) } 1, 2;
is(end_load($_), 0, 'both ended') or diag load_log($_) for @both;
is($count->(), $n, 'all files are there');
is(sql($node, q{SELECT count(*) FROM scan WHERE image <> convert_to(E'P5\n8 8\n255\nSTUB:text=' || (right(path, 8)::varchar(4))::int, 'UTF8')}), '0', 'each with its bytes');
my ($rc, $out) = load_files($node, @options);
is("$rc $out", "0 loaded 0 files, 0.0 MB; $n were there, 0 skipped, 0 failed\n", 'nothing is left to do');
$node->stop;
done_testing();
