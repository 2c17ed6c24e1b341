# Documents of many pages within batches.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;
use DsocrBatch;

my $node = new_server('batch_documents', pages => 'stub', conf => "dsocr.max_requests = 24");
sql($node, q{
CREATE TABLE doc (id int, document bytea);
INSERT INTO doc SELECT i, CASE WHEN i % 3 = 0 THEN convert_to('STUB:text=image ' || i, 'UTF8')
	ELSE convert_to('%PDF-1.4 STUB:pages=' || i || ';each=text=page # of ' || i, 'UTF8') END FROM generate_series(1, 14) i;
INSERT INTO doc VALUES (20, NULL), (21, ''), (22, '%PDF-1.4 STUB:open-error=1:broken'), (23, '%PDF-1.4 STUB:pages=3;fail2=1:bad page');
CREATE TABLE good AS SELECT * FROM doc WHERE id < 21;
ANALYZE});

same_results($node, 'documents and images', 'SELECT id, dsocr_text(document) FROM good');
same_results($node, 'pages', q{SELECT id, dsocr_text(document, pages => '[2,3]') FROM good});
same_results($node, 'a filter', q{SELECT id, dsocr_text(document) FROM good WHERE dsocr_markdown(document) LIKE '%page 5 of%'});
same_results($node, 'layouts', 'SELECT id, dsocr_layout(document) FROM good ORDER BY id LIMIT 7');
same_results($node, 'an error', 'SELECT id, dsocr_text(document) FROM doc', fails => 1);
same_results($node, 'warnings', "SET dsocr.on_error = 'warning'; SELECT id, dsocr_text(document) FROM doc", fails => 1);
same_results($node, 'errors as values', 'SELECT id, (r).error, (r).markdown FROM (SELECT id, dsocr_try(document) AS r FROM doc OFFSET 0) d');
same_results($node, 'a savepoint', q{BEGIN; DECLARE c CURSOR FOR SELECT id, dsocr_text(document) FROM good; FETCH 1 FROM c;
	SAVEPOINT a; FETCH 3 FROM c; ROLLBACK TO a; FETCH 3 FROM c; SAVEPOINT b; FETCH 2 FROM c; ROLLBACK TO b; FETCH ALL FROM c; COMMIT});
like(sql($node, 'EXPLAIN (ANALYZE, COSTS off) SELECT dsocr_text(document) FROM good WHERE id < 6'), qr/Images: 13\n/, 'pages are counted');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
