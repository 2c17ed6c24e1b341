# Foreign tables: rows come from elsewhere, calls are made here.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;
use DsocrBatch;

my $node = new_server('batch_foreign');
if (sql($node, "SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'") eq '0')
{
	$node->stop;
	plan skip_all => 'postgres_fdw is not installed';
}
create_scans($node);
my ($host, $port) = ($node->host, $node->port);
sql($node, qq{
CREATE EXTENSION postgres_fdw;
CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres');
CREATE SERVER async FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres', async_capable 'true');
CREATE USER MAPPING FOR CURRENT_USER SERVER here;
CREATE USER MAPPING FOR CURRENT_USER SERVER async;
CREATE SCHEMA f;
IMPORT FOREIGN SCHEMA public LIMIT TO (scan, word, wide) FROM SERVER here INTO f;
CREATE TABLE f.part (id int, img bytea) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE f.part1 PARTITION OF f.part FOR VALUES FROM (0) TO (6) SERVER async OPTIONS (schema_name 'public', table_name 'part1');
CREATE FOREIGN TABLE f.part2 PARTITION OF f.part FOR VALUES FROM (6) TO (100) SERVER async OPTIONS (schema_name 'public', table_name 'part2');
CREATE TABLE f.mixed (id int, img bytea) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE f.mixed1 PARTITION OF f.mixed FOR VALUES FROM (0) TO (6) SERVER here OPTIONS (schema_name 'public', table_name 'part1');
CREATE TABLE f.mixed2 PARTITION OF f.mixed FOR VALUES FROM (6) TO (100);
INSERT INTO f.mixed2 SELECT id, img FROM part2});

my %queries = (
	'a scan'     => 'SELECT id, dsocr_text(img) FROM f.scan',
	'a filter'   => "SELECT id, dsocr_text(img) FROM f.scan WHERE dsocr_figure(img) LIKE '%1%' AND id < 12",
	'a join'     => 'SELECT a.id, dsocr_text(a.img), length(b.big) FROM f.scan a JOIN f.wide b USING (id) ORDER BY 1',
	'a join there' => 'SELECT a.id, dsocr_text(a.img), dsocr_figure(b.img) FROM f.scan a JOIN f.scan b ON b.id = a.id + 1 ORDER BY 1',
	'asynchronous' => 'SELECT id, dsocr_text(img) FROM f.part ORDER BY id',
	'partitions' => 'SELECT id, dsocr_text(img) FROM f.mixed ORDER BY id',
	'an update'  => 'BEGIN; UPDATE f.scan SET note = dsocr_text(img) WHERE id < 5; SELECT id, note FROM f.scan ORDER BY id; ROLLBACK',
	'an insert'  => 'BEGIN; INSERT INTO f.word SELECT dsocr_text(img) FROM scan; SELECT word FROM f.word ORDER BY 1; ROLLBACK',
	'locked'     => 'BEGIN; SELECT id, dsocr_text(img) FROM f.scan WHERE id < 5 FOR UPDATE; ROLLBACK',
	'a cursor'   => 'BEGIN; DECLARE c SCROLL CURSOR FOR SELECT id, dsocr_text(img) FROM f.scan; FETCH 3 FROM c; FETCH BACKWARD 1 FROM c; FETCH ALL FROM c; COMMIT',
);
same_results($node, $_, $queries{$_}) for sort keys %queries;
like(plan_of($node, $queries{'a scan'}), qr/^Custom Scan \(DsocrBatch\)\n.*\n  ->  Foreign Scan/, 'the plan');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
