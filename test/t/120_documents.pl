# Documents of several pages: order, marks, statuses, ranges, passwords.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;

my $node = new_server('documents', pages => 'stub', conf => 'log_min_messages = debug1');

# A PDF with commands for the stand-ins.
sub pdf
{
	my ($commands) = @_;
	return "'%PDF-1.4 STUB:$commands'::bytea";
}

# order, marks, numbers
is(sql($node, 'SELECT dsocr_text(' . pdf('pages=3') . ')'),
	"page 1\n\n<!-- page 2 -->\n\npage 2\n\n<!-- page 3 -->\n\npage 3", 'pages are joined by marks');
is(sql($node, 'SELECT dsocr_generate(' . pdf('pages=2') . ", 'x')"),
	"page 1\n\n<!-- page 2 -->\n\npage 2", 'raw text, too');
is(sql($node, 'SELECT dsocr_text(' . pdf('pages=1') . ')'), 'page 1', 'one page has no mark');
my $sum = sql($node, 'SELECT md5(dsocr_text(' . pdf('pages=300;sleep=0.001;each=sleep=0.00#,text=page #') . '))');
my $expected = sql($node, q{SELECT md5(string_agg(CASE n WHEN 1 THEN '' ELSE E'\n\n<!-- page ' || n || E' -->\n\n' END
	|| 'page ' || n, '' ORDER BY n)) FROM generate_series(1, 300) n});
is($sum, $expected, '300 pages in order');

# layout, rows, figures
my $figure = '<|ref|>image<|/ref|><|det|>[[0, 0, 500, 500]]<|/det|>';
is(sql($node, 'SELECT btrim(dsocr_markdown(' . pdf("pages=2;page2=text=$figure\n$figure") . "), E'\n')"),
	"page 1\n\n<!-- page 2 -->\n\n![](images/2_0.jpg)\n\n![](images/2_1.jpg)", 'figures are numbered by page');
is(sql($node, 'SELECT btrim(dsocr_markdown(' . pdf("pages=1;each=text=$figure") . "), E'\n')"),
	'![](images/0.jpg)', 'figures of one page as the official code names them');
is(sql($node, 'SELECT jsonb_path_query_array(dsocr_layout(' . pdf('pages=3') . "), '\$.pages[*].page')"),
	'[1, 2, 3]', 'pages of the layout');
is(sql($node, 'SELECT page, ord, content, status FROM dsocr_blocks(' . pdf('pages=2') . ')'),
	"1|1|page 1|ok\n2|1|page 2|ok", 'rows');
is(sql($node, 'SELECT page_count, text_tokens, image_tokens, finish_reason, round(confidence::numeric, 4), jsonb_array_length(pages) FROM dsocr_read('
	. pdf('pages=3;page2=length,text=page 2') . ')'), '3|6|819|length|0.8825|3', 'sums of all pages');
is(sql($node, 'SELECT (dsocr_read(' . pdf('pages=3') . ')).confidence < 0.9'), 't', 'confidence can be compared');

# ranges
for (['[2,3]', '2 3'], ['(1,3)', '2'], ['[2,)', '2 3 4 5'], ['(,2]', '1 2'], ['(,)', '1 2 3 4 5'], ['[4,99]', '4 5'],
	['[-5,1]', '1'], ['(4,)', '5'], ['[-2147483648,2147483646]', '1 2 3 4 5'], ['[5,5]', '5'])
{
	my ($range, $pages) = @$_;
	is(sql($node, "SELECT string_agg(content, ' ') FROM dsocr_blocks(" . pdf('pages=5;each=text=#') . ", pages => '$range')"),
		$pages, "pages => $range");
}
for my $range ('[6,9]', 'empty', '(,1)', '[0,0]', '(5,)')
{
	is(sql($node, 'SELECT dsocr_text(' . pdf('pages=5') . ", pages => '$range') IS NULL"), 't', "no page in $range");
	is(sql($node, 'SELECT dsocr_try(' . pdf('pages=5') . ", pages => '$range') IS NULL"), 't', "nor for dsocr_try");
}
is(sql($node, 'SELECT dsocr_text(' . pdf('pages=5') . ", pages => '[4,5]')"),
	"page 4\n\n<!-- page 5 -->\n\npage 5", 'marks name pages of the document');

# pages that fail: in the page server, and in the engine
my $bad = pdf('pages=4;fail2=1:bad -- stream;page3=error=3:too long');
my ($out, $err) = try_sql($node, verbose "SELECT dsocr_text($bad)");
like($err, qr/ERROR:  22P03: page 2: bad -- stream\nHINT:  dsocr_read reads the other pages.*dsocr.on_error/, 'text raises the first');
is(sql($node, "SET dsocr.on_error = 'null'; SELECT dsocr_text($bad)"),
	"page 1\n\n<!-- page 2 -->\n\n<!-- page 2: undecodable: bad - - stream -->\n\n<!-- page 3 -->\n\n" .
	"<!-- page 3: refused: too long -->\n\n<!-- page 4 -->\n\npage 4", 'comments stand for pages');
($out, $err) = try_sql($node, "SET dsocr.on_error = 'warning'; SELECT length(dsocr_text($bad)) > 0");
is($out, 't', 'and with a warning');
like($err, qr/WARNING:  2 of 4 pages could not be read\nDETAIL:  The first reason: bad -- stream\./, 'which counts them');
($out, $err) = try_sql($node, "SELECT dsocr_layout($bad)");
like($err, qr/ERROR:  page 2: bad/, 'layout raises');
is(sql($node, "SET dsocr.on_error = 'null'; SELECT jsonb_path_query_array(dsocr_layout($bad), '\$.pages[*].status')"),
	'["ok", "undecodable", "refused", "ok"]', 'or tells');
is(sql($node, "SELECT finish_reason, page_count, jsonb_path_query_array(pages, '\$[*].status'), error FROM dsocr_read($bad)"),
	'error|4|["ok", "undecodable", "refused", "ok"]|', 'dsocr_read has a status for each page');
is(sql($node, "SELECT page, ord, status FROM dsocr_blocks($bad)"),
	"1|1|ok\n2||undecodable\n3||refused\n4|1|ok", 'dsocr_blocks, too');
($out, $err) = try_sql($node, verbose 'SELECT dsocr_read(' . pdf('pages=2;each=error=1:bad #') . ')');
like($err, qr/ERROR:  22P03: bad 1/, 'no page could be read');
is(sql($node, 'SELECT error, sqlstate, page_count, markdown IS NULL FROM dsocr_try(' . pdf('pages=2;each=error=1:bad #') . ')'),
	'bad 1|22P03|2|t', 'dsocr_try says so');

# documents that cannot be opened
my $locked = pdf('pages=2;password=sesame');
($out, $err) = try_sql($node, "SELECT dsocr_text($locked)");
like($err, qr/ERROR:  PDF is encrypted/, 'a locked document');
($out, $err) = try_sql($node, "SELECT dsocr_text($locked, password => reverse('hsuh'))");
like($err, qr/ERROR:  password is wrong/, 'a wrong password');
unlike($err, qr/hush/, 'is not told');
is(sql($node, "SELECT length(dsocr_text($locked, password => 'sesame')) > 0"), 't', 'the right password');
is(sql($node, "SELECT sqlstate, page_count, pages FROM dsocr_try($locked)"), '22P03||', 'dsocr_try');
is(sql($node, "SET dsocr.on_error = 'null'; SELECT dsocr_text($locked) IS NULL"), 't', 'on_error = null');
($out, $err) = try_sql($node, "SELECT dsocr_text($locked, password => repeat('x', 200))");
like($err, qr/ERROR:  password is longer than 127 bytes/, 'a long password');

# limits
($out, $err) = try_sql($node, "SET dsocr.max_document_bytes = 1; SELECT dsocr_text('%PDF-1.4' || repeat(' ', 2000)::bytea)");
like($err, qr/ERROR:  document has 2008 bytes, more than dsocr.max_document_bytes \(1kB\)/, 'a large document');
is(sql($node, "SET dsocr.max_image_bytes = 1; SELECT dsocr_text(" . pdf('pages=1;each=text=x;') . " || repeat(' ', 2000)::bytea)"), 'x',
	'max_image_bytes is for images');
is(sql($node, 'SET dsocr.prefetch = 1; SELECT dsocr_text(' . pdf('pages=3;each=text=#') . ')'),
	"1\n\n<!-- page 2 -->\n\n2\n\n<!-- page 3 -->\n\n3", 'one page at a time');
is(sql($node, 'SELECT * FROM dsocr_tokens(' . pdf('pages=30') . ')'), '1x1|30|8190|7680', 'the price of all pages');
is_at_baseline($node, 'nothing is left');

# statistics, and what is shown
sql($node, 'SELECT t.reset()');
sql($node, 'SELECT dsocr_text(' . pdf('pages=5') . ')');
is(sql($node, "SELECT device, completed, failed, cancelled FROM t.stats() WHERE device IS NOT NULL ORDER BY device"),
	"cpu|5|0|0\npages|6|0|0", 'a document counts once it is open, and each page');
my $session = begin_sql($node, 'SELECT dsocr_text(' . pdf('pages=5;page4=sleep=60') . ')');
wait_until(sub { sql($node, 'SELECT count(*) FROM t.requests()') eq '1' });
is(sql($node, 'SELECT state, task, page, pages, device FROM t.requests()'), 'running|text|4|5|cpu', 'the page that is read');
sql($node, 'SELECT pg_cancel_backend(pid) FROM t.requests()');
end_sql($session);
$session = begin_sql($node, 'SELECT dsocr_text(' . pdf('pages=50;sleep=60') . ')');
wait_until(sub { sql($node, 'SELECT count(*) FROM t.requests()') eq '7' });
is(sql($node, "SELECT state, task, page, pages, device FROM t.requests() ORDER BY page NULLS FIRST LIMIT 2"),
	"open|document||50|pages\nrunning|page|1|50|pages", 'the document, and pages that are asked for');
is(sql($node, "SELECT device, queued, running, state FROM t.workers() ORDER BY device"), "cpu|0|0|ready\npages|0|6|ready", 'workers');
sql($node, 'SELECT pg_cancel_backend(pid) FROM t.requests() LIMIT 1');
end_sql($session);
is_at_baseline($node, 'nothing is left of those that were cancelled');
unlike(log_of($node), qr/hush/, 'a password is not logged');
done_testing();
