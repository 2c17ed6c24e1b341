# Attached rows that change, go, are locked or forbidden while their job runs.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my $node = new_server('races', conf => "dsocr.retry_delay = 100ms\nautovacuum = off");
sql($node, q{CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE SCHEMA a AUTHORIZATION alice; GRANT USAGE ON SCHEMA a TO bob});
sql($node, q{CREATE TABLE a.scan (id int PRIMARY KEY, image bytea, body text, note text);
	ALTER TABLE a.scan ALTER image SET STORAGE EXTERNAL;
	SELECT dsocr_attach('a.scan', 'image', 'body', tsvector_column => 'words', side_table => 'pages'); GRANT SELECT, INSERT, UPDATE, DELETE ON a.scan TO bob}, user => 'alice');
my $drained = sub { sql($node, 'SELECT count(*) FROM dsocr.job_queue') eq '0' };
my $running = sub { $node->poll_query_until('postgres', "SELECT count(*) = $_[0] FROM t.requests() WHERE state = 'running'"); };
sub body { my ($id) = @_; return sql($node, "SELECT coalesce(body, '-') || '|' || coalesce((SELECT string_agg(text, '+') FROM a.pages p WHERE p.id = s.id), '-') FROM a.scan s WHERE id = $id"); }
my $filler = 'x' x 3000;	# stored out of line

# the newer image wins, in line or not; a change of other columns does not matter
for my $fill ('', $filler)
{
	my $where = $fill ? 'out of line' : 'in line';
	sql($node, "INSERT INTO a.scan VALUES (1, 'STUB:sleep=2;text=old$fill'), (2, 'STUB:sleep=2;text=kept$fill'), (3, 'STUB:sleep=2;text=gone$fill')", user => 'bob');
	$running->(3);
	sql($node, "UPDATE a.scan SET image = 'STUB:sleep=1;text=new$fill' WHERE id = 1; UPDATE a.scan SET note = 'seen' WHERE id = 2; DELETE FROM a.scan WHERE id = 3", user => 'bob');
	ok(wait_until($drained), "$where: drained");
	is(body(1), "new$fill|new$fill", "$where: the newer image wins");
	is(body(2), "kept$fill|kept$fill", "$where: the same image stays");
	is(sql($node, 'SELECT count(*) FROM a.scan WHERE id = 3'), '0', "$where: a row that is gone stays gone");
	is(sql($node, 'SELECT sum(done), sum(failed) FROM dsocr.progress'), $fill ? '4|0' : '2|0', "$where: each was read once");
	sql($node, 'DELETE FROM a.scan');
}

# Waits within a transaction until the test has inserted the name into "go".
sql($node, 'CREATE TABLE go (name text); GRANT SELECT ON go TO PUBLIC');
my $hold = sub { return "DO \$\$ BEGIN WHILE NOT EXISTS (SELECT FROM public.go WHERE name = '$_[0]') LOOP PERFORM pg_sleep(0.1); END LOOP; END \$\$" };

# a locked row holds up nobody; an uncommitted image is waited for
sql($node, "INSERT INTO a.scan SELECT i, 'STUB:sleep=1;text=first' FROM generate_series(1, 20) i", user => 'bob');
my $lock = begin_sql($node, "BEGIN; UPDATE a.scan SET image = 'STUB:text=second' WHERE id = 7; " . $hold->('row') . '; COMMIT', user => 'bob');
ok(wait_until(sub { sql($node, "SELECT count(*) FROM a.scan WHERE body = 'first'") eq '19' }), 'the others are written');
is(body(7), '-|-', 'the locked one is not');
sql($node, "INSERT INTO go VALUES ('row')");
end_sql($lock);
ok(wait_until($drained), 'drained');
is(body(7), 'second|second', 'and then it is, as it is now');

# a locked table neither
sql($node, 'CREATE TABLE a.other (id int PRIMARY KEY, image bytea); SELECT dsocr_attach(\'a.other\', \'image\', \'body\')', user => 'alice');
sql($node, "INSERT INTO a.other VALUES (1, 'STUB:sleep=1;text=late')", user => 'alice');
$running->(1);
$lock = begin_sql($node, 'BEGIN; LOCK TABLE a.other; ' . $hold->('table') . '; COMMIT', user => 'alice');
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'a.other'::regclass AND granted");
sql($node, "UPDATE a.scan SET image = 'STUB:text=third' WHERE id = 8", user => 'bob');
ok(wait_until(sub { body(8) eq 'third|third' }), 'a locked table holds up nobody');
sql($node, "INSERT INTO go VALUES ('table')");
end_sql($lock);
ok(wait_until(sub { sql($node, 'SELECT body FROM a.other') eq 'late' }), 'and is served when it is free');

# a user's trigger that fails is a failure of the job, with its reason; so is a forbidden table
sql($node, q{CREATE FUNCTION a.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.body = 'refused' THEN RAISE 'not this one' USING ERRCODE = '23514'; END IF; RETURN NEW; END $$;
	CREATE TRIGGER no BEFORE UPDATE ON a.scan FOR EACH ROW EXECUTE FUNCTION a.no()}, user => 'alice');
sql($node, "UPDATE a.scan SET image = 'STUB:text=refused' WHERE id = 9; UPDATE a.scan SET image = 'STUB:text=fine' WHERE id = 10", user => 'bob');
ok(wait_until($drained), 'drained');
is(sql($node, "SELECT key, reason, sqlstate, attempts FROM dsocr.failures"), '{9}|not this one|23514|1', 'a trigger says no');
is(body(10), 'fine|fine', 'to one row only');
sql($node, 'ALTER TABLE a.pages OWNER TO postgres');
sql($node, "UPDATE a.scan SET image = 'STUB:text=more' WHERE id = 11", user => 'bob');
ok(wait_until($drained), 'drained');
is(sql($node, "SELECT sqlstate FROM dsocr.failures WHERE key = '{11}'"), '42501', 'rights are those of the owner of the table');
like(body(11), qr/^first/, 'all or nothing');
sql($node, 'ALTER TABLE a.pages OWNER TO alice');
is(sql($node, 'SELECT dsocr_retry()', user => 'alice'), '2', 'the owner queues them again');
ok(wait_until($drained), 'drained');
is(body(11), 'more|more', 'and one passes');

# what runs there cannot do more than the owner, nor change the session
sql($node, q{CREATE TABLE secret (x text); INSERT INTO secret VALUES ('s')});
sql($node, q{CREATE TABLE a.seen (who name, path text, settings text);
	CREATE FUNCTION a.spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO a.seen VALUES (current_user, current_setting('search_path'), '');
		BEGIN SET SESSION AUTHORIZATION postgres; INSERT INTO a.seen VALUES (current_user, 'session', ''); EXCEPTION WHEN OTHERS THEN NULL; END;
		BEGIN RESET ROLE; INSERT INTO a.seen VALUES (current_user, 'role', ''); EXCEPTION WHEN OTHERS THEN NULL; END;
		BEGIN INSERT INTO a.seen SELECT x, 'secret' FROM public.secret; EXCEPTION WHEN OTHERS THEN NULL; END;
		PERFORM set_config('search_path', 'a', false);
		RETURN NULL; END $$;
	CREATE FUNCTION a.length(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO a.seen VALUES (current_user, 'captured'); RETURN 1; END $$;
	CREATE TRIGGER spy AFTER UPDATE ON a.scan FOR EACH ROW EXECUTE FUNCTION a.spy();
	CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON a.scan DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION a.spy()}, user => 'alice');
sql($node, "ALTER TABLE a.scan DISABLE TRIGGER spy; ALTER TABLE a.scan DISABLE TRIGGER later", user => 'alice');
sql($node, "UPDATE a.scan SET image = 'STUB:sleep=1;text=spied' WHERE id IN (12, 13)", user => 'bob');
sql($node, "ALTER TABLE a.scan ENABLE TRIGGER spy; ALTER TABLE a.scan ENABLE TRIGGER later", user => 'alice');
ok(wait_until($drained), 'drained');
is(sql($node, 'SELECT DISTINCT who FROM a.seen'), 'alice', 'triggers run as the owner, deferred ones too');
is(sql($node, q{SELECT count(*) FROM a.seen WHERE path IN ('session', 'role', 'secret', 'captured')}), '0', 'and get no further');
is(sql($node, q{SELECT count(*) FROM a.seen WHERE path = 'pg_catalog, pg_temp'}), '2', 'what one sets does not last for the next');
is(body(13), 'spied|spied', 'and the work is done');

# row-level security that is forced holds for jobs
sql($node, "ALTER TABLE a.scan DISABLE TRIGGER USER", user => 'alice');
sql($node, "ALTER TABLE a.scan ENABLE ROW LEVEL SECURITY; ALTER TABLE a.scan FORCE ROW LEVEL SECURITY; CREATE POLICY p ON a.scan USING (id <> 14)", user => 'alice');
my $job = sql($node, q{SELECT dsocr_enqueue_row('a.scan', '{"id": 14}', 'image')}, user => 'alice');
my $seen = sql($node, q{SELECT dsocr_enqueue_row('a.scan', '{"id": 15}', 'image')}, user => 'alice');
ok(wait_until($drained), 'drained');
like(sql($node, "SELECT reason FROM dsocr.failures WHERE id = $job"), qr/may not see it/, 'a row that is hidden is not read');
is(sql($node, "SELECT state FROM dsocr.jobs WHERE id = $seen"), 'done', 'another one is');
$job = sql($node, q{SELECT dsocr_enqueue_row('a.scan', '{"id": 15}', 'image')}, user => 'bob');
sql($node, 'REVOKE SELECT ON a.scan FROM bob', user => 'alice');
my ($out, $err) = try_sql($node, q{SELECT dsocr_enqueue_row('a.scan', '{"id": 15}', 'image')}, user => 'bob');
like($err, qr/permission denied for table scan/, 'who may not read a table cannot have it read');

unlike(log_of($node), qr/PANIC|TRAP|signal 11/, 'nothing in the log');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
