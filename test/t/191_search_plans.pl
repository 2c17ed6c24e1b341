# Searches of 20,000 pages go by their indexes, whatever is typed and whoever asks.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my $node = new_server('search_plans', conf => 'dsocr.run_jobs = off');
sql($node, q{
CREATE ROLE clerk LOGIN;
CREATE TABLE scan (id int PRIMARY KEY, owner name, image bytea);
SELECT dsocr_attach('scan', 'image', side_table => 'page', language => 'english', backfill => false);
INSERT INTO scan SELECT i, CASE WHEN i % 2 = 0 THEN 'clerk' ELSE 'app' END FROM generate_series(1, 20000) AS i;
INSERT INTO page (id, page, status, text, tsv, layout)
SELECT id, 1, 'ok', t, to_tsvector('english', t), jsonb_build_object('page', 1, 'width', 1000, 'height', 1000, 'elements', jsonb_build_array(
	jsonb_build_object('type', 'title', 'text', 'letter ' || id, 'boxes', '[[10, 10, 900, 50]]'::jsonb),
	jsonb_build_object('type', 'text', 'text', t, 'boxes', jsonb_build_array(jsonb_build_array(id % 1000, 100 + id % 800, 1000, 100 + id % 800 + 20)))))
FROM scan, LATERAL (VALUES ('the boats of letter ' || id || ' arrived at pier ' || id % 100)) AS v(t);
SELECT dsocr_index_elements('scan', 'element');
-- the other ways to keep words: a column, with a language for each row; text alone
CREATE TABLE note (id int PRIMARY KEY, image bytea, language text, body text, words tsvector);
SELECT dsocr_attach('note', 'image', text_column => 'body', tsvector_column => 'words', language_column => 'language', backfill => false);
CREATE INDEX note_words ON note USING gin (words);
INSERT INTO note SELECT id, NULL, l, text, to_tsvector(l::regconfig, text)
	FROM page, LATERAL (VALUES (CASE id % 3 WHEN 0 THEN 'german' WHEN 1 THEN 'english' ELSE 'simple' END)) AS v(l);
CREATE TABLE memo (id int PRIMARY KEY, image bytea, body text);
SELECT dsocr_attach('memo', 'image', text_column => 'body', language => 'english', backfill => false);
CREATE INDEX memo_body ON memo USING gin (to_tsvector('english', body));
INSERT INTO memo SELECT id, NULL, text FROM page;
-- a key whose operators are no operators of PostgreSQL's own
CREATE SCHEMA other;
CREATE EXTENSION citext SCHEMA other;
CREATE TABLE other.book (code other.citext PRIMARY KEY, image bytea);
SELECT dsocr_attach('other.book', 'image', side_table => 'book_page', backfill => false);
INSERT INTO other.book SELECT 'B' || id FROM scan;
INSERT INTO other.book_page (code, page, status, text, tsv) SELECT lower(code), 1, 'ok', 'leaf ' || code, to_tsvector('simple', 'leaf ' || code) FROM other.book;
GRANT SELECT ON scan, page, element TO clerk;
});
sql($node, 'VACUUM ANALYZE');

# The statement behind a search uses this index, and reads no table from end to end.
sub goes_by
{
	my ($query, $index, $what, %option) = @_;
	my $plan = sql($node, 'EXPLAIN ' . sql($node, "SELECT $query"), %option);

	like($plan, qr/(?:Bitmap )?Index (?:Only )?Scan (?:on|using) $index\b/, $what);
	unlike($plan, qr/Seq Scan/, "$what: no more than needed");
	return;
}
my @asked = (
	[ q{dsocr_search_query('scan', '1234')}, 'page_tsv_idx', 'a rare word' ],
	[ q{dsocr_search_query('scan', '"pier 17" 4217 -draft')}, 'page_tsv_idx', 'a phrase and others' ],
	[ q{dsocr_search_query('scan', '1234 or 1235*')}, 'page_tsv_idx', 'alternatives' ],
	[ q{dsocr_search_query('scan', '1234', language => 'german')}, 'page_tsv_idx', 'another language' ],
	[ q{dsocr_search_query('note', '1234')}, 'note_words', 'languages by row' ],
	[ q{dsocr_search_query('note', 'boats 1234')}, 'note_words', 'words that languages see differently' ],
	[ q{dsocr_search_query('memo', '1234')}, 'memo_body', 'text alone' ],
	[ q{dsocr_search_query('other.book', 'b1234')}, 'book_page_tsv_idx', 'a key of another type' ],
	[ q{dsocr_find_query('scan', '1234')}, 'element_to_tsvector_idx', 'elements by words' ],
	[ q{dsocr_find_query('scan', region => '(0.99,0.99),(1,1)')}, 'element_place_idx', 'elements by place' ],
	[ q{dsocr_find_query('scan', '4217', '(0,0.2),(0.6,0.4)', '{text}')}, 'element_\w+_idx', 'elements by all' ]);
goes_by(@$_) for @asked;

# what they find is what is there
is(sql($node, q{SELECT key, page, snippet FROM dsocr_search('scan', '4217 "pier 17"')}),
	'{"id": 4217}|1|boats of letter <mark>4217</mark> arrived at <mark>pier</mark> <mark>17</mark>', 'found');
is(sql($node, q{SELECT string_agg(key ->> 'id', ' ' ORDER BY key) FROM dsocr_search('note', 'boat 1234 or boat 1235 or boat 1236')}), '1234 1236', 'stems of the language of the row');
is(sql($node, q{SELECT count(*) FROM dsocr_search('note', 'boats 1234 or boats 1235 or boats 1236')}), '3', 'and words');
is(sql($node, q{SELECT key, snippet FROM dsocr_search('other.book', 'b1234')}), '{"code": "B1234"}|leaf <mark>B1234</mark>', 'the key compares as its type does');
is(sql($node, q{SELECT count(*) FROM dsocr_find('scan', region => '(0.5,0),(1,1)', max_rows => NULL)}), '20000', 'centres in the right half');
is(sql($node, q{SELECT key, box FROM dsocr_find('scan', '4217', '(0.5,0),(1,1)', '{text}')}), '{"id": 4217}|(1000,337),(217,317)', 'found by place');

# with a policy on the attached table
sql($node, 'ALTER TABLE scan ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON scan USING (owner = current_user)');
goes_by(@{ $asked[0] }, user => 'clerk');
goes_by(@{ $asked[9] }, user => 'clerk');
is(sql($node, q{SELECT string_agg(key ->> 'id', ' ' ORDER BY key) FROM dsocr_search('scan', '1234 or 1235')}, user => 'clerk'), '1234', 'and it holds');

# whatever is typed: rows, none, or an error that says why; never long
my %typed = (
	'4217 (a+)+$ .* \\d [[:alpha:]]' => 0, '' => 0, '   ' => 0, 'the of and' => 0, 'the* of*' => 0, '*' => 0, q{':*} => 0, '\\' => 0, q{\\'} => 0,
	'слово 文字 كلمة' => 0, '4217 🙂' => 1, 'l\'été' => 0, "4217\t\n\x01\x02" => 1, '-boats' => 0, 'or or or' => 0, '%s %I $1' => 20,
	'"' x 4000 => 0, '-' x 4000 . '4217' => 20, '( ' x 2000 . '4217' => 1, 'z* ' x 100 => 0, 'x' x 4000 => 0, 'x' x 4000 . '*' => 0,
	'well -- - - 4217' => 0,
	join(' or ', 1001 .. 1020) => 20, 'pier ' x 100 => 20, '1234 or ' x 100 => 1, 'boats* ' x 100 => 20);
for my $typed (sort keys %typed)
{
	my $query = $typed =~ s/'/''/gr;
	my $start = time;
	my ($out, $err) = try_sql($node, "SELECT count(*) FROM dsocr_search('scan', '$query')");
	my $name = substr($typed, 0, 30) =~ s/[^ -~]/?/gr;
	is("$out $err", "$typed{$typed} ", "typed: $name");
	cmp_ok(time - $start, '<', 20, "typed: $name: not for long");
}
my (undef, $err) = try_sql($node, q{SELECT count(*) FROM dsocr_search('scan', repeat('x ', 2049))});
like($err, qr/ERROR:  query is too long\nDETAIL:  It has 4098 bytes, the limit is 4096\./, 'what is longer than anybody types');
(undef, $err) = try_sql($node, "SELECT count(*) FROM dsocr_search('scan', repeat('$_ ', 101))") and
	like($err, qr/ERROR:  query has too many words\nDETAIL:  It has 101 words, the limit is 100\./, "too many words: $_") for '4217', 'pier or', 'boats*';

# a document of many pages, whose first hit is on the last one
sql($node, q{CREATE TABLE tome (id int PRIMARY KEY, image bytea, body text, layout jsonb);
SELECT dsocr_attach('tome', 'image', text_column => 'body', layout_column => 'layout', backfill => false);
INSERT INTO tome SELECT 1, NULL, string_agg(t, ' '), jsonb_build_object('pages', jsonb_agg(jsonb_build_object('page', p, 'width', 1000, 'height', 1000,
	'elements', jsonb_build_array(jsonb_build_object('type', 'text', 'text', t, 'boxes', '[[0, 0, 1000, 1000]]'::jsonb))) ORDER BY p))
FROM generate_series(1, 500) AS p, LATERAL (SELECT string_agg('word' || p * 50 + i, ' ') AS t FROM generate_series(1, 50) AS i) AS w});
is(sql($node, q{SELECT page, boxes -> 0 ->> 'text' FROM dsocr_search('tome', 'word25050')}), '500|word25050', 'the page of a hit in a long document');
$node->stop;
done_testing();
