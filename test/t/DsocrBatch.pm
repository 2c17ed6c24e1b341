# Comparing queries with and without the batch scan.
package DsocrBatch;

use strict;
use warnings;

use Exporter 'import';
use Test::More;
use DsocrSql;

our @EXPORT = qw(create_scans outcome same_results plan_of calls_made);

# Tables of documents for the stand-in engine: texts, NULLs, none that fails.
sub create_scans
{
	my ($node) = @_;

	sql($node, q{
CREATE FUNCTION doc(i int) RETURNS bytea LANGUAGE sql IMMUTABLE AS
	$$SELECT CASE WHEN i % 5 = 0 THEN NULL ELSE convert_to('STUB:sleep=0.00' || i * 7 % 9 || ';text=text ' || i, 'UTF8') END$$;
CREATE TABLE scan (id int PRIMARY KEY, grp int, note text, m dsocr_mode, img bytea);
INSERT INTO scan SELECT i, i % 3, CASE WHEN i % 2 = 0 THEN 'note ' || i END,
	CASE WHEN i % 4 = 0 THEN 'small'::dsocr_mode END, doc(i) FROM generate_series(1, 12) i;
CREATE TABLE word (word text);
INSERT INTO word VALUES ('text 1'), ('text 4'), ('another');
CREATE TABLE part (id int, img bytea) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (6);
CREATE TABLE part2 (img bytea, junk int, id int);
ALTER TABLE part2 DROP junk;
ALTER TABLE part ATTACH PARTITION part2 FOR VALUES FROM (6) TO (100);
INSERT INTO part SELECT id, img FROM scan;
CREATE TABLE parent (id int, img bytea);
CREATE TABLE child (extra int) INHERITS (parent);
INSERT INTO parent SELECT id, img FROM scan WHERE id < 4;
INSERT INTO child SELECT id, img, 1 FROM scan WHERE id > 2;
CREATE TABLE wide AS SELECT id, repeat('x', 20000 + id) AS big, img FROM scan;
ALTER TABLE wide ADD later int DEFAULT 7;
CREATE SEQUENCE counter;
CREATE FUNCTION same(d bytea) RETURNS bytea LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN d; END';
CREATE DOMAIN short AS text CHECK (length(value) < 8);
ANALYZE;
});
	return;
}

# What a client sees of a query: rows, then messages.
sub outcome
{
	my ($node, $query, $batch, %option) = @_;
	my ($out, $err) = try_sql($node, "SET dsocr.batch_scan = $batch; $query", %option);

	# psql names the statement's place in its input
	$err =~ s/^psql:<stdin>:\d+: //mg;
	return ($out, $err);
}

# The same with and without; returns what it was.
sub same_results
{
	my ($node, $name, $query, %option) = @_;
	my ($out, $err) = outcome($node, $query, 'off', %option);
	my ($batch_out, $batch_err) = outcome($node, $query, 'on', %option);

	is("$batch_out\n$batch_err", "$out\n$err", "$name: equal");
	is($err, '', "$name: works") unless $option{fails};
	return ($out, $err);
}

sub plan_of
{
	my ($node, $query, $settings) = @_;
	return sql($node, ($settings // '') . "; EXPLAIN (COSTS off) $query");
}

# How many requests a query made, and its output.
sub calls_made
{
	my ($node, $query, %option) = @_;
	my $count = 'SELECT coalesce(sum(completed + failed + cancelled), 0) FROM t.stats()';
	my $before = sql($node, $count);
	my ($out, $err) = try_sql($node, $query, %option);

	Dsocr::is_at_baseline($node, 'nothing is left in the queue');
	return (sql($node, $count) - $before, $out, $err);
}

1;
