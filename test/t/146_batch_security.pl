# No call is made for a row that a policy or a security barrier hides.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;
use DsocrBatch;

my $node = new_server('batch_security');
sql($node, q{
CREATE ROLE clerk;
CREATE TABLE secret (id int, owner text, img bytea);
INSERT INTO secret SELECT i, CASE WHEN i % 3 = 0 THEN 'clerk' ELSE 'boss' END, convert_to('STUB:text=page ' || i, 'UTF8')
	FROM generate_series(1, 12) i;
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secret USING (owner = current_user);
GRANT SELECT, UPDATE ON secret TO clerk;
CREATE TABLE parted (id int, owner text, img bytea) PARTITION BY RANGE (id);
CREATE TABLE parted1 PARTITION OF parted FOR VALUES FROM (0) TO (5);
CREATE TABLE parted2 PARTITION OF parted FOR VALUES FROM (5) TO (50);
INSERT INTO parted SELECT * FROM secret;
ALTER TABLE parted ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON parted USING (owner = current_user);
CREATE VIEW barrier WITH (security_barrier) AS SELECT id, img FROM secret WHERE id < 7;
CREATE VIEW slow_barrier WITH (security_barrier) AS
	SELECT id, img FROM secret WHERE dsocr_figure(img) LIKE '%3' OFFSET 0;
CREATE FUNCTION may_see(owner text) RETURNS boolean LANGUAGE plpgsql STABLE COST 1000000000 AS
	$$BEGIN RETURN owner = 'clerk'; END$$;
CREATE TABLE dear (id int, owner text, img bytea);
INSERT INTO dear SELECT * FROM secret;
ALTER TABLE dear ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON dear USING (may_see(owner));
GRANT SELECT ON parted, barrier, slow_barrier, dear TO clerk;
GRANT SELECT ON ALL TABLES IN SCHEMA t TO clerk;
GRANT USAGE ON SCHEMA t TO clerk;
CREATE FUNCTION as_boss(d bytea, m dsocr_mode = NULL, p int4range = NULL, t int = NULL, i int = NULL, w text = NULL)
	RETURNS text LANGUAGE c AS 'dsocr', 'dsocr_text';
REVOKE EXECUTE ON FUNCTION as_boss FROM PUBLIC;
ANALYZE});

# Equal results, and as many calls as there are visible rows.
sub visible
{
	my ($query, $calls) = @_;

	same_results($node, $query, "SET ROLE clerk; $query");
	for my $batch (qw(off on))
	{
		my ($made) = calls_made($node, "SET dsocr.batch_scan = $batch; SET ROLE clerk; $query");
		is($made, $calls, "$query: calls with batch scan $batch");
	}
	return;
}
visible('SELECT id, dsocr_text(img) FROM secret', 4);
visible("SELECT id FROM secret WHERE dsocr_text(img) LIKE '%1%'", 4);
visible("SELECT id, dsocr_figure(img) FROM secret WHERE dsocr_text(img) LIKE '%1%'", 5);
visible('SELECT count(dsocr_text(img)) FROM secret', 4);
visible('SELECT id, dsocr_text(img) FROM parted ORDER BY id', 4);
visible("SELECT id FROM parted WHERE dsocr_text(img) LIKE '%1%'", 4);
visible("BEGIN; UPDATE secret SET img = dsocr_text(img)::bytea; ROLLBACK", 4);
visible('SELECT dsocr_text(s.img) FROM secret s JOIN secret t USING (id)', 4);

# the policy's function costs more than reading, and is still asked first
visible("SELECT id, dsocr_figure(img) FROM dear WHERE dsocr_text(img) LIKE '%1%'", 5);

# the view's owner may see everything, its user what the view shows
visible("SELECT id FROM barrier WHERE dsocr_text(img) LIKE 'page%'", 6);
visible("SELECT id, dsocr_markdown(img) FROM slow_barrier WHERE dsocr_text(img) LIKE 'page%'", 14);

# rights to execute are checked as ever
my (undef, $err) = same_results($node, 'no right to execute', 'SET ROLE clerk; SELECT as_boss(img) FROM secret', fails => 1);
like($err, qr/ERROR:  permission denied for function as_boss/, 'and the error says so');
$node->stop;
done_testing();
