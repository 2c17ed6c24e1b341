# Queries give the same with the batch scan as without it.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;
use DsocrBatch;

my $node = new_server('batch_results', conf => "dsocr.max_requests = 40");
create_scans($node);

my $read = 'dsocr_text(img)';
my %queries = (
	'one call'             => "SELECT id, $read FROM scan",
	'all columns'          => "SELECT *, $read FROM scan",
	'no column'            => q{SELECT dsocr_text('STUB:text=same') FROM scan},
	'a system column'      => "SELECT ctid, tableoid::regclass, $read FROM scan",
	'the whole row'        => "SELECT scan, $read FROM scan",
	'two calls'            => "SELECT $read, dsocr_generate(img, 'a' || id) FROM scan",
	'the same call twice'  => "SELECT $read || '/' || upper($read), $read IS NULL FROM scan",
	'a composite'          => 'SELECT (dsocr_read(img)).markdown, (dsocr_read(img)).text_tokens FROM scan',
	'jsonb'                => 'SELECT dsocr_layout(img) FROM scan',
	'arguments'            => "SELECT dsocr_text(img, 'tiny', max_tokens => id + 1), dsocr_text(img, mode => m) FROM scan",
	'no such page'         => "SELECT id, dsocr_text(img, pages => int4range(id % 2, 3)) FROM scan WHERE id < 8",
	'within another'       => "SELECT dsocr_generate(img, 'x' || dsocr_text(img)) FROM scan",
	'a filter'             => "SELECT id FROM scan WHERE $read LIKE '%1%'",
	'a filter and output'  => "SELECT id, $read FROM scan WHERE grp > 0 AND $read LIKE '%1%'",
	'two filters'          => "SELECT id, dsocr_generate(img, 'z') FROM scan WHERE $read LIKE '%1%' AND dsocr_figure(img) < 'text 3'",
	'or'                   => "SELECT id FROM scan WHERE grp = 1 OR $read LIKE '%3%'",
	'or, the call first'   => "SELECT id FROM scan WHERE $read LIKE '%3%' OR dsocr_figure(img) LIKE '%1%'",
	'not'                  => "SELECT id FROM scan WHERE NOT ($read LIKE '%3%') AND NOT (grp = 1 OR dsocr_figure(img) IS NULL)",
	'case'                 => "SELECT id, CASE WHEN grp = 1 THEN $read WHEN $read IS NULL THEN 'none' END FROM scan",
	'case of a call'       => "SELECT id, CASE $read WHEN 'text 3' THEN 'three' WHEN dsocr_figure(img) THEN 'other' END FROM scan",
	'coalesce'             => "SELECT id, COALESCE($read, 'nothing'), COALESCE(note, $read) FROM scan",
	'kinds of expressions' => "SELECT ARRAY[$read, note], ROW(id, $read), GREATEST($read, 'text 2'), NULLIF($read, 'text 1'),
		$read IS DISTINCT FROM 'text 1', $read = ANY ('{text 1,text 2}'), $read COLLATE \"C\" < 'text 3', ${read}::varchar(3), (ARRAY[$read])[1] FROM scan",
	'order by it'          => "SELECT id, $read FROM scan ORDER BY 2 DESC NULLS LAST, id",
	'order by another'     => "SELECT id, $read FROM scan ORDER BY id DESC",
	'order and limit'      => "SELECT id, $read FROM scan ORDER BY id DESC LIMIT 5 OFFSET 2",
	'limit'                => "SELECT id, $read FROM scan LIMIT 5",
	'limit and filter'     => "SELECT id, $read FROM scan WHERE $read LIKE '%2%' LIMIT 2",
	'limit with ties'      => "SELECT grp, $read FROM scan ORDER BY grp FETCH FIRST 3 ROWS WITH TIES",
	'limit of nothing'     => "SELECT id, $read FROM scan LIMIT 0",
	'limit by subquery'    => "SELECT id, $read FROM scan LIMIT (SELECT 3)",
	'distinct'             => "SELECT DISTINCT $read FROM scan ORDER BY 1",
	'distinct on'          => "SELECT DISTINCT ON (grp) grp, $read FROM scan ORDER BY grp, id",
	'group by it'          => "SELECT $read, count(*) FROM scan GROUP BY 1 ORDER BY 1",
	'group by a document'  => "SELECT img, $read, count(*) FROM scan GROUP BY img ORDER BY 2",
	'aggregates'           => "SELECT count($read), max(dsocr_figure(img)), string_agg($read, ',' ORDER BY id) FROM scan",
	'distinct aggregates'  => "SELECT count(DISTINCT $read) FROM scan",
	'filtered aggregates'  => "SELECT count($read) FILTER (WHERE grp = 1), count(*) FILTER (WHERE $read LIKE '%1') FROM scan",
	'grouped aggregates'   => "SELECT grp, max($read), count(*) FROM scan GROUP BY grp ORDER BY grp",
	'having'               => "SELECT grp, min($read) FROM scan GROUP BY grp HAVING max($read) > 'text 2' ORDER BY 1",
	'having of a group'    => "SELECT img FROM scan GROUP BY img HAVING $read LIKE '%1%' AND count(*) > 0 ORDER BY 1",
	'grouping sets'        => "SELECT grp, img IS NULL, dsocr_text(img), grouping(img) FROM scan GROUP BY GROUPING SETS ((grp), (img)) ORDER BY 1, 2, 3",
	'windows'              => "SELECT id, $read, row_number() OVER (ORDER BY id), lag($read) OVER (ORDER BY id) FROM scan",
	'windows over it'      => "SELECT id, rank() OVER (PARTITION BY grp ORDER BY $read) FROM scan ORDER BY id",
	'conditions on windows' => "SELECT * FROM (SELECT id, $read, row_number() OVER (ORDER BY id) n FROM scan) w WHERE n < 4",
	'a join above'         => "SELECT s.id, t.body FROM scan s JOIN (SELECT id, $read AS body FROM scan OFFSET 0) t USING (id) ORDER BY 1",
	'a join below'         => "SELECT s.id, dsocr_text(s.img), dsocr_figure(t.img) FROM scan s JOIN scan t ON t.id = s.id + 1 ORDER BY 1",
	'outer joins'          => "SELECT s.id, dsocr_text(t.img) FROM scan s LEFT JOIN scan t ON t.id = s.id + 20 WHERE dsocr_text(t.img) IS NULL OR s.id > 3 ORDER BY 1",
	'joined by it'         => "SELECT s.id, w.word FROM scan s JOIN word w ON w.word = dsocr_text(s.img) ORDER BY 1",
	'semi join'            => "SELECT word FROM word w WHERE EXISTS (SELECT 1 FROM scan WHERE $read = w.word) ORDER BY 1",
	'not in'               => "SELECT word FROM word WHERE word NOT IN (SELECT $read FROM scan WHERE img IS NOT NULL) ORDER BY 1",
	'cross join'           => "SELECT s.id, w.word, $read FROM scan s, word w ORDER BY 1, 2",
	'lateral'              => "SELECT s.id, l.body FROM scan s, LATERAL (SELECT s.id || dsocr_text(t.img) AS body FROM scan t WHERE t.id = s.grp + 1) l ORDER BY 1",
	'correlated'           => "SELECT id, (SELECT dsocr_text(t.img) FROM scan t WHERE t.id = s.id + 1) FROM scan s ORDER BY 1",
	'correlated argument'  => "SELECT id, dsocr_text((SELECT t.img FROM scan t WHERE t.id = s.id + 1)) FROM scan s ORDER BY 1",
	'subplan beside'       => "SELECT id, $read, (SELECT count(*) FROM word WHERE word < s.note) FROM scan s ORDER BY 1",
	'initplan'             => "SELECT id, $read || (SELECT max(word) FROM word) FROM scan WHERE id > (SELECT min(id) FROM scan)",
	'exists below limit'   => "SELECT EXISTS (SELECT FROM scan WHERE $read = 'text 4')",
	'cte'                  => "WITH c AS MATERIALIZED (SELECT id, $read AS body FROM scan) SELECT a.body, b.id FROM c a JOIN c b USING (id) ORDER BY 2",
	'recursion'            => "WITH RECURSIVE r AS (SELECT 1 AS id, dsocr_text(img) AS body FROM scan WHERE id = 1 UNION ALL
		SELECT s.id, dsocr_text(s.img) FROM scan s JOIN r ON s.id = r.id + 1) SELECT * FROM r",
	'union all'            => "SELECT id, $read FROM scan WHERE id < 4 UNION ALL SELECT id, dsocr_figure(img) FROM scan WHERE id > 9",
	'union'                => "SELECT $read FROM scan UNION SELECT word FROM word ORDER BY 1",
	'intersect'            => "SELECT $read FROM scan INTERSECT SELECT word FROM word ORDER BY 1",
	'partitions'           => "SELECT id, $read FROM part ORDER BY id",
	'partitions, filtered' => "SELECT id, dsocr_figure(img) FROM part WHERE $read LIKE '%1%' AND id > 2 ORDER BY id",
	'inheritance'          => "SELECT id, $read FROM parent ORDER BY id, 2",
	'set-returning function' => "SELECT id, regexp_split_to_table($read, ' ') FROM scan",
	'beside a set'         => "SELECT id, $read, generate_series(1, grp) FROM scan",
	'blocks'               => "SELECT id, b.content FROM scan, dsocr_blocks(img) b ORDER BY 1, 2",
	'blocks in the output' => "SELECT id, dsocr_blocks(img) FROM scan",
	'function scan'        => "SELECT dsocr_text(f) FROM unnest(ARRAY[convert_to('STUB:text=a', 'UTF8'), NULL, 'STUB:text=b']) f",
	'values'               => "SELECT dsocr_text(v.d) FROM (VALUES ('STUB:text=a'::bytea), ('STUB:text=b'), (NULL)) v(d)",
	'volatile beside'      => "SELECT setseed(0.5); SELECT id, $read, random() < 2, nextval('counter') FROM scan LIMIT 4; SELECT last_value FROM counter; SELECT setval('counter', 1, false)",
	'volatile argument'    => "SELECT dsocr_text(same(img)), $read FROM scan",
	'a domain'             => "SELECT ${read}::short FROM scan WHERE id < 5",
	'index order'          => "SET enable_seqscan = off; SELECT id, $read FROM scan WHERE id BETWEEN 2 AND 7 ORDER BY id",
	'bitmap scan'          => "SET enable_seqscan = off; SET enable_indexscan = off; SELECT id, $read FROM scan WHERE id BETWEEN 2 AND 7",
	'merge join'           => "SET enable_hashjoin = off; SET enable_nestloop = off; SET enable_sort = off;
		SELECT s.id, t.id FROM scan s JOIN scan t USING (id) WHERE dsocr_text(t.img) LIKE '%1%' AND dsocr_text(s.img) IS NOT NULL ORDER BY 1",
	'merge join, repeated' => "SET enable_hashjoin = off; SET enable_nestloop = off; SET enable_material = off;
		SELECT s.id, t.id FROM scan s JOIN scan t USING (grp) WHERE dsocr_text(t.img) > 'text 1' ORDER BY 1, 2",
	'nested loop'          => "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; SET enable_memoize = off;
		SELECT s.id, t.id, dsocr_text(t.img) FROM scan s JOIN scan t ON t.grp = s.grp WHERE dsocr_figure(t.img) > 'text 1' ORDER BY 1, 2",
	'sample'               => "SELECT id, $read FROM scan TABLESAMPLE bernoulli (100)",
	'tid scan'             => "SELECT id, $read FROM scan WHERE ctid = '(0,2)'",
	'for update'           => "BEGIN; SELECT id, $read FROM scan WHERE id < 6 FOR UPDATE; ROLLBACK",
	'for update, skip'     => "BEGIN; SELECT id, $read FROM scan ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED; ROLLBACK",
	'a wide row'           => "SELECT id, length(big), $read FROM wide",
	'decoded documents'    => "SELECT dsocr_text(decode(encode(img, 'base64'), 'base64')) FROM scan",
);

same_results($node, $_, $queries{$_}) for sort keys %queries;
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
