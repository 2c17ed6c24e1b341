# Statements that write: with and without the batch scan the tables are the same.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;
use DsocrBatch;

my $node = new_server('batch_writes');
create_scans($node);
sql($node, q{
CREATE TABLE audit (what text);
CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO audit VALUES (TG_OP || ' ' || NEW.id || ' ' || NEW.note); RETURN NEW; END $$;
CREATE FUNCTION change_others() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN UPDATE scan SET grp = grp + 100 WHERE id = NEW.id + 2; RETURN NEW; END $$;
CREATE TABLE target (id int PRIMARY KEY, note text);
INSERT INTO target SELECT id, 'old' FROM scan WHERE id % 2 = 0;
CREATE VIEW view AS SELECT id, note, img FROM scan WHERE id < 6});

my $show = 'SELECT * FROM scan ORDER BY id; SELECT * FROM target ORDER BY id; SELECT * FROM audit; SELECT * FROM part ORDER BY id';
my %statements = (
	'create table as'  => 'CREATE TABLE made AS SELECT id, dsocr_text(img) AS body FROM scan; SELECT * FROM made ORDER BY id',
	'select into'      => 'SELECT id, dsocr_text(img) AS body INTO made FROM scan; SELECT * FROM made ORDER BY id',
	'materialized view' => 'CREATE MATERIALIZED VIEW made AS SELECT id, dsocr_text(img) AS body FROM scan; REFRESH MATERIALIZED VIEW made; SELECT * FROM made ORDER BY id',
	'insert select'    => 'INSERT INTO target SELECT id + 100, dsocr_text(img) FROM scan',
	'insert into the same table' => 'INSERT INTO scan (id, note, img) SELECT id + 100, dsocr_text(img), img FROM scan',
	'insert partitions' => 'INSERT INTO part SELECT id + 20, dsocr_text(img)::bytea FROM scan',
	'insert on conflict' => 'INSERT INTO target SELECT id, dsocr_text(img) FROM scan ON CONFLICT (id) DO UPDATE SET note = EXCLUDED.note || dsocr_text(\'STUB:text=new\')',
	'insert returning' => 'INSERT INTO scan (id, img) SELECT id + 100, img FROM scan RETURNING id, dsocr_text(img)',
	'update'           => 'UPDATE scan SET note = dsocr_text(img)',
	'update some'      => "UPDATE scan SET note = dsocr_text(img), grp = length(dsocr_figure(img)) WHERE id > 3 AND dsocr_text(img) LIKE '%1%'",
	'update from'      => 'UPDATE target t SET note = dsocr_text(s.img) FROM scan s WHERE s.id = t.id',
	'update by subquery' => 'UPDATE target t SET note = (SELECT dsocr_text(s.img) FROM scan s WHERE s.id = t.id)',
	'update partitions' => "UPDATE part SET id = id + 5, img = dsocr_text(img)::bytea WHERE id < 7",
	'update inherited' => 'UPDATE parent SET img = dsocr_text(img)::bytea; SELECT * FROM parent ORDER BY 1, 2',
	'update a view'    => 'UPDATE view SET note = dsocr_text(img)',
	'update returning' => 'UPDATE scan SET note = dsocr_text(img) RETURNING id, note, dsocr_figure(img)',
	'update with triggers' => 'CREATE TRIGGER t BEFORE UPDATE ON scan FOR EACH ROW EXECUTE FUNCTION note_change(); UPDATE scan SET note = dsocr_text(img)',
	'triggers that change others' => 'CREATE TRIGGER t AFTER UPDATE OF note ON scan FOR EACH ROW EXECUTE FUNCTION change_others(); UPDATE scan SET note = dsocr_text(img)',
	'update in a cte'  => 'WITH u AS (UPDATE scan SET note = dsocr_text(img) RETURNING id) SELECT count(*) FROM u',
	'delete'           => "DELETE FROM scan WHERE dsocr_text(img) LIKE '%1%'",
	'delete using'     => "DELETE FROM target t USING scan s WHERE s.id = t.id AND dsocr_text(s.img) LIKE '%2'",
	'merge'            => "MERGE INTO target t USING (SELECT id, dsocr_text(img) AS body, img FROM scan) s ON s.id = t.id
		WHEN MATCHED AND body IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET note = body || dsocr_figure(s.img)
		WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.body)",
	'copy'             => 'COPY (SELECT id, dsocr_text(img) FROM scan) TO STDOUT',
);
for my $name (sort keys %statements)
{
	same_results($node, $name, "BEGIN; $statements{$name}; $show; ROLLBACK");
}

# Rows that another transaction changes meanwhile: the statement looks again.
sub concurrently
{
	my ($name, $batch, $statement, $select) = @_;

	sql($node, "TRUNCATE target; INSERT INTO target SELECT id, 'old' FROM scan; DELETE FROM scan WHERE id = 7;
		INSERT INTO scan SELECT 7; UPDATE scan SET note = 'before', img = doc(id)");

	# it commits as soon as the statement waits for it
	my $first = begin_sql($node, q{BEGIN; UPDATE scan SET img = 'STUB:text=changed' WHERE id = 3; UPDATE scan SET note = 'hidden' WHERE id = 4;
		DELETE FROM scan WHERE id = 7; SELECT pg_advisory_lock(1);
		DO $$ BEGIN FOR i IN 1 .. 2000 LOOP PERFORM pg_sleep(0.01); EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted); END LOOP; END $$; COMMIT});
	wait_until(sub { sql($node, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 1 });
	my ($out, $err) = outcome($node, $statement, $batch);
	end_sql($first);
	return "$out $err\n" . sql($node, $select);
}
for my $statement ("UPDATE scan SET note = dsocr_text(img) WHERE note = 'before'",
	"UPDATE scan SET note = dsocr_figure(img) WHERE note = 'before' AND dsocr_text(img) > ''",
	"UPDATE scan s SET note = dsocr_text(s.img) FROM target t WHERE t.id = s.id AND s.note = 'before'",
	"SELECT id, dsocr_text(img) FROM scan WHERE note = 'before' ORDER BY id FOR UPDATE")
{
	my @result = map { concurrently($statement, $_, $statement, 'SELECT id, note FROM scan ORDER BY id') } qw(off on);
	is($result[1], $result[0], "$statement: concurrent changes");
	like($result[1], qr/^3\|changed$/m, "$statement: sees them");
}
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
