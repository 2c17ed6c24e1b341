# Rows whose readings find no place in the queue yet keep what they need.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;
use DsocrBatch;

my $node = new_server('batch_full_queue', conf => "dsocr.max_requests = 4\ndsocr.queue_memory = '1MB'");
sql($node, q{
CREATE TABLE scan AS SELECT i AS id, convert_to('STUB:sleep=0.005;text=text ' || i || repeat(' ', 700 + i), 'UTF8') AS img FROM generate_series(1, 60) i;
ALTER TABLE scan ADD PRIMARY KEY (id);
CREATE TABLE stored AS SELECT id, img FROM scan;
ALTER TABLE stored ALTER img SET STORAGE external;
UPDATE stored SET img = img || convert_to(repeat(' ', 20000 + id), 'UTF8');
CREATE FUNCTION find(i int) RETURNS bytea LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT img FROM scan WHERE id = i); END';
ANALYZE});

my %queries = (
	'rows'               => 'SELECT id, btrim(dsocr_text(img)) FROM scan',
	'stored out of line' => 'SELECT id, btrim(dsocr_text(img)) FROM stored',
	'computed'           => 'SELECT id, btrim(dsocr_text(img || convert_to(id::text, $$UTF8$$))) FROM scan',
	'of a subquery'      => 'SELECT id, btrim(dsocr_text((SELECT t.img FROM scan t WHERE t.id = 61 - s.id))) FROM scan s',
	'within a case'      => 'SELECT id, btrim(dsocr_text(CASE WHEN id % 2 = 0 THEN (SELECT t.img FROM scan t WHERE t.id = 61 - s.id) ELSE img END)) FROM scan s',
	'of a function'      => 'SELECT id, btrim(dsocr_text(find(id))) FROM scan',
	'of an array'        => 'SELECT id, btrim(dsocr_text((ARRAY[img, find(1)])[1])) FROM scan',
	'of an initplan'     => 'SELECT id, btrim(dsocr_text((SELECT img FROM scan WHERE id = 7))) FROM scan',
	'of a nested loop'   => 'SET enable_hashjoin = off; SET enable_mergejoin = off; SELECT s.id, l.t FROM scan s,
		LATERAL (SELECT btrim(dsocr_text(s.img)) AS t FROM generate_series(1, 2) OFFSET 0) l',
	'prompts'            => 'SELECT id, dsocr_generate(convert_to($$STUB:prompt$$, $$UTF8$$), (SELECT $$word $$ || t.id FROM scan t WHERE t.id = 61 - s.id)) FROM scan s',
	'a filter'           => 'SELECT id, btrim(dsocr_markdown(img)) FROM scan WHERE dsocr_text(img) LIKE $$%1%$$',
);
same_results($node, $_, $queries{$_}) for sort keys %queries;

# several sessions with more than there is room for
my @sessions = map { begin_sql($node, 'SET dsocr.prefetch = 60; SELECT string_agg(btrim(dsocr_text(img)), $$,$$ ORDER BY id) FROM scan') } 1 .. 6;
my $expected = join ',', map { "text $_" } 1 .. 60;
is((end_sql($_))[1], $expected, 'a session among others') for @sessions;
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
