# What archive functions make of pages that fail, of hostile layouts and of
# other encodings; nothing is left behind.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrFiles;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);

stub_environment('text=<|ref|>text<|/ref|><|det|>[[10, 10, 900, 90]]<|/det|>' . "\nread");
my $node = document_server('failures', pages => 'stub');
my $dir = PostgreSQL::Test::Utils::tempdir();

sub document { return "'%PDF-1.4 STUB:$_[0]'::bytea"; }

# A page that cannot be made into an image: its place says so.
my $three = document('pages=3;fail2=1:torn -- page');
my ($out, $err) = try_sql($node, "SELECT p.page, p.image IS NULL FROM dsocr_pages($three) p");
like($err, qr/ERROR:  .*torn/, 'dsocr_pages: error');
($out, $err) = try_sql($node, "SET dsocr.on_error = 'warning'; SELECT p.page, p.image IS NULL FROM dsocr_pages($three) p");
is($out, "1|f\n2|t\n3|f", 'or NULL');
like($err, qr/WARNING:  .*torn/, 'and a warning');
($out, $err) = try_sql($node, "SELECT dsocr_hocr($three)");
like($out, qr/id="page_2" title="bbox 0 0 0 0; ppageno 1">\n<!-- page 2: undecodable: .*torn - - page -->/, 'hOCR');
is(sql($node, "SELECT string_agg(concat_ws('/', t.page, t.status), ' ') FROM dsocr_tables($three) t"), '2/undecodable', 'tables');
is(sql($node, "SET dsocr.on_error = 'null'; SELECT string_agg(concat_ws('/', i.page, i.name), ' ') FROM dsocr_images($three) i"), '2', 'images');
($out, $err) = try_sql($node, "SELECT dsocr_html($three)");
like($out, qr/<section id="page-2"><h1>Page 2<\/h1>\n<div class="scan"><\/div>\n<div class="text">\n<p class="why">undecodable: .*torn -- page<\/p>/, 'HTML');
like($err, qr/WARNING:  1 page could not be read or shown\n.*DETAIL:  The first: page 2: /s, 'HTML: warning');
is((try_sql($node, "SET dsocr.on_error = 'null'; SELECT dsocr_html($three) IS NULL"))[1], '', 'HTML: no warning');

# The stand-in's images are neither JPEG nor PNG: notices, and a sound file.
save($node, "SELECT dsocr_searchable_pdf($three)", "$dir/notice.pdf");
SKIP:
{
	skip 'qpdf and poppler-utils are not installed', 2 unless program('qpdf') && program('pdftotext');
	like(output_of('qpdf', '--check', "$dir/notice.pdf"), qr/No syntax/, 'PDF of notices: sound');
	like(output_of('pdftotext', "$dir/notice.pdf", '-'), qr/Page 1: .*neither JPEG nor PNG.*Page 2: .*torn/s, 'they say why');
}

# The whole document fails.
my $broken = document('open-error=1:no document at all');
for my $call ("dsocr_html($broken)", "dsocr_searchable_pdf($broken)", "dsocr_overlay($broken)", "dsocr_hocr($broken)",
	"dsocr_searchable_pdf($broken, '{\"pages\": []}')")
{
	like((try_sql($node, "SELECT $call"))[1], qr/ERROR:  no document at all/, "error: $call");
	is(sql($node, "SET dsocr.on_error = 'null'; SELECT $call IS NULL"), 't', "NULL: $call");
}
is_at_baseline($node, 'nothing is left after failures');

# Hostile layouts: large, deep, empty, of one letter or of two million.
my $hostile = "jsonb_build_object('pages', jsonb_build_array(jsonb_build_object('page', 1, 'width', 1000, 'height', 1000, 'elements', E)))";
my $one = "jsonb_build_array(jsonb_build_object('type', 'text', 'boxes', jsonb_build_array(B), 'text', T))";
sub layout { my ($e) = @_; return $hostile =~ s/E\)\)\)/$e)))/r; }
sub element { my ($b, $t) = @_; return layout($one =~ s/\(B\)/($b)/r =~ s/, T\)/, $t)/r); }
my $box = "'[0,0,1000,1000]'::jsonb";
my %hostile = (
	'a word of two million letters' => element($box, "repeat('x', 2000000)"),
	'half a million words' => element($box, "repeat('word ', 500000)"),
	'two million line feeds' => element($box, "repeat(E'\\n', 2000000)"),
	'half a million lines' => element($box, "repeat(E'x\\n', 500000)"),
	'a million ideographs in a pixel' => element("'[5,5,5,5]'::jsonb", "repeat('字', 1000000)"),
	'a million less-than signs' => element($box, "repeat('<', 1000000)"),
	'a million ampersands' => element($box, "repeat('&', 1000000)"),
	'a million open tables' => element($box, "repeat('<table>', 1000000)"),
	'a hundred thousand tables' => element($box, "repeat('<table><tr><td>x</td></tr></table>', 100000)"),
	'a table of 500 x 500' => element($box, "'<table>' || repeat('<tr>' || repeat('<td>x', 500), 500)"),
	'open comments' => element($box, "repeat('<table><!--', 20000)"),
	'fifty thousand elements' => layout("(SELECT jsonb_agg(jsonb_build_object('type', 'text', 'text', 'x', 'boxes', '[[1,1,9,9]]'::jsonb)) FROM generate_series(1, 50000))"),
	'fifty thousand boxes' => layout("jsonb_build_array(jsonb_build_object('type', 'text', 'text', repeat('word ', 1000), 'boxes', "
		  . "(SELECT jsonb_agg('[1,1,9,9]'::jsonb) FROM generate_series(1, 50000))))"),
);
my $document = document('pages=1');
for my $name (sort keys %hostile)
{
	for my $call ("dsocr_hocr($hostile{$name})", "(SELECT string_agg(html, '') FROM dsocr_tables($hostile{$name}))",
		"dsocr_html($document, $hostile{$name})", "dsocr_searchable_pdf($document, $hostile{$name})")
	{
		my ($function) = $call =~ /(dsocr_\w+)/;
		my ($length, $error) = try_sql($node, "SET statement_timeout = '60s'; SELECT length($call) > 100");

		ok(($length =~ /^[tf]?$/ && $error !~ /ERROR/) || $error =~ /more than 1000000 cells/, "$name: $function")
		  or diag substr $error, 0, 300;
	}
}
is_at_baseline($node, 'nothing is left after hostile layouts');

# A statement that is cancelled in the middle of it stops.
my $start = time;
($out, $err) = try_sql($node, "SET statement_timeout = '300ms'; SELECT length(dsocr_hocr($hostile{'half a million words'}))");
like($err, qr/statement timeout/, 'cancelled');
cmp_ok(time - $start, '<', 30, 'soon');

# A database of another encoding: text in it, what it cannot hold as '?', PDF with everything that the layout has.
$node->safe_psql('postgres', "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
sql($node, 'CREATE EXTENSION dsocr', db => 'latin');
my $accents = '{"pages": [{"page": 1, "width": 100, "height": 100, "elements": [{"type": "text", "boxes": [[0,0,90,20]], "text": "caf\u00e9 &mdash; <table><tr><td>&alpha;\u00fc</td></tr></table>"}]}]}';
is(sql($node, "SET client_encoding = 'UTF8'; SELECT t.cells->0->>'text' FROM dsocr_tables('$accents'::jsonb) t", db => 'latin'), '?ü', 'LATIN1: table');
($out, $err) = try_sql($node, "SET client_encoding = 'UTF8'; SELECT dsocr_hocr('$accents'::jsonb)", db => 'latin');
like($out, qr/>café</, 'LATIN1: hOCR');
like($err, qr/NOTICE:  2 characters have no equivalent in encoding "LATIN1"/, 'LATIN1: notice');
like(sql($node, "SET client_encoding = 'UTF8'; SELECT dsocr_html($document, '$accents')", db => 'latin'), qr/café \?/, 'LATIN1: HTML');
like(sql($node, "SELECT encode(dsocr_searchable_pdf($document, '$accents'), 'escape')", db => 'latin'), qr/%PDF/, 'LATIN1: PDF');

done_testing();
