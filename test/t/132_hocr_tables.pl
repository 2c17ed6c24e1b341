# hOCR, tables, pages, figures and overlays of documents that are read by the call.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrFiles;
use DsocrSql;
use JSON::PP;
use MIME::Base64;
use PostgreSQL::Test::Utils;

# What the stand-in reads on every page of 1000 x 1300 pixels.
my $read = join "\n",
  '<|ref|>title<|/ref|><|det|>[[80, 70, 573, 103]]<|/det|>', '# The Pier & "more"', '',
  '<|ref|>table<|/ref|><|det|>[[80, 300, 919, 446]]<|/det|>', '<table><tr><td>a</td><td>b</td></tr></table>', '',
  '<|ref|>image<|/ref|><|det|>[[80, 492, 480, 722]]<|/det|>', '',
  '<|ref|>image<|/ref|><|det|>[]<|/det|>', '',
  '<|ref|>text<|/ref|><|det|>[[520, 488, 919, 620]]<|/det|>', 'last <words>';
stub_environment("text=$read");

my $node = document_server('hocr');
my $dir = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', 'CREATE TABLE page (name text PRIMARY KEY, image bytea)');
$node->safe_psql('postgres', "INSERT INTO page VALUES ('report', " . bytea(fixture('documents/report.png')) . ')');

# Well-formed, and every box inside of the one around it.
my $check = <<'END';
import re, sys, xml.dom.minidom as dom
def box(e):
    m = re.search(r'bbox (-?\d+) (-?\d+) (-?\d+) (-?\d+)', e.getAttribute('title'))
    return [int(v) for v in m.groups()] if m else None
def walk(e, around, counts):
    if e.nodeType == e.ELEMENT_NODE:
        own = box(e)
        if own:
            kind = e.getAttribute('class')
            counts[kind] = counts.get(kind, 0) + 1
            if around and not (own[0] >= around[0] - 1 and own[1] >= around[1] - 1 and own[2] <= around[2] + 1 and own[3] <= around[3] + 1):
                print('outside:', e.getAttribute('id'), own, around)
            if own[0] >= own[2] or own[1] >= own[3]:
                print('empty:', e.getAttribute('id'))
            around = own
        for c in e.childNodes:
            walk(c, around, counts)
counts = {}
walk(dom.parse(sys.argv[1]).documentElement, None, counts)
print(' '.join(f'{k}={v}' for k, v in sorted(counts.items())))
END
append_to_file("$dir/check.py", $check);
save($node, 'SELECT dsocr_hocr(image) FROM page', "$dir/read.hocr", text => 1);
is(output_of('python3', "$dir/check.py", "$dir/read.hocr"),
	"ocr_carea=3 ocr_line=4 ocr_page=1 ocr_par=3 ocr_photo=1 ocrx_word=8\n", 'hOCR of a page that is read');
save($node, "SELECT dsocr_hocr(\$l\$" . report_layout() . "\$l\$::jsonb)", "$dir/report.hocr", text => 1);
like(output_of('python3', "$dir/check.py", "$dir/report.hocr"), qr/\Aocr_carea=9 .* ocr_photo=1 /, 'of a layout');

# Whatever characters a layout has, the file stays well-formed.
my @codes = (1 .. 0x10f, 0xfffe, 0xffff, 0x1f600);
my @wrong;
for my $round (1 .. 20)
{
	srand $round;
	my $noise = join '', map { chr $codes[ rand @codes ] } 1 .. 300;
	my $json = JSON::PP->new->ascii->encode({ pages => [ { page => 1, width => 500, height => 500, status => $noise, error => $noise,
		elements => [ { type => $noise, boxes => [ [ 10, 10, 400, 400 ] ], text => $noise } ] } ] });

	save($node, "SELECT dsocr_hocr(\$l\$$json\$l\$::jsonb)", "$dir/noise.hocr", text => 1);
	push @wrong, $round unless output_of('python3', "$dir/check.py", "$dir/noise.hocr") =~ /\Aocr_carea=1 /;
}
is("@wrong", '', 'hOCR of noise is well-formed');

# Tables and figures of a page that is read.
is(sql($node, 'SELECT t.page, t.ord, t.grid, t.complete, t.box, t.status FROM page, dsocr_tables(image) t'),
	'1|2|[["a", "b"]]|t|(919,580),(80,390)|ok', 'tables') or diag explain
	sql($node, 'SELECT dsocr_layout(image) FROM page');
is(sql($node, 'SELECT i.page, i.ord, i.name, get_byte(i.image, 18) * 256 + get_byte(i.image, 19), '
	. "get_byte(i.image, 22) * 256 + get_byte(i.image, 23), i.label FROM page, dsocr_images(image) i"),
	"1|3|images/0.jpg|400|299|image\n1|4|images/1.jpg|||image", 'figures, under the names of the links');
is(sql($node, 'SELECT dsocr_markdown(image) FROM page') =~ s/.*?(images\/\d+\.jpg)[^!]*/$1 /gsr,
	'images/0.jpg images/1.jpg ', 'which markdown has too');
is(sql($node, "SELECT i.ord, i.name, i.label FROM page, dsocr_images(image, types => '{title,text}') i"),
	"1||title\n5||text", 'other types');

# At another resolution boxes go with the page.
my $layout = '{"pages": [{"page": 1, "width": 500, "height": 650, "elements": [{"type": "image", "boxes": [[40, 320, 240, 470]]}]}]}';
is(sql($node, "SELECT get_byte(i.image, 18) * 256 + get_byte(i.image, 19) FROM page, dsocr_images(image, '$layout') i"),
	400, 'a layout of half the size');
is(sql($node, "SELECT dsocr_overlay(image, 1, '$layout') = dsocr_overlay(image, 1, '"
	  . ($layout =~ s/\b(500|650|40|320|240|470)\b/2 * $1/ger) . "') FROM page"), 't', 'overlay of it');

# Geometry as text of an element is drawn into its box; strange numbers do no harm.
my $drawing = q({'Line': {'line': ['(0,0) -- (4,0)', '(4,3) -- (0,0)'], 'line_type': ['-', '--'], 'line_endpoint': ['A: (0,0)']},)
  . q( 'Circle': {'circle_center': ['O: (2,1.5)'], 'radius': [2.5]}});
my @pictures = map {
	my $text = $_;
	sql($node, 'SELECT md5(dsocr_overlay(image, 1, jsonb_set(' . "'$layout', '{pages,0,elements,0,text}', to_jsonb(\$t\$$text\$t\$::text)))) FROM page")
} '', $drawing, $drawing =~ s/2\.5/1e300/r, $drawing =~ s/O:/O|\tx:/r, q({'Line': {'line': ['(1,1) -- (1,1)']}});
isnt($pictures[1], $pictures[0], 'geometry is drawn');
is($pictures[2], $pictures[0], 'but none of infinite size');
isnt($pictures[3], $pictures[0], 'whatever its labels are');
is($pictures[4], $pictures[0], 'and no single point');

# Pages of a document, in a range; an image is page 1.
is(sql($node, "SELECT p.page, p.width, p.height, substr(p.image, 2, 3) = 'PNG' FROM page, dsocr_pages(image) p"),
	'1|1000|1300|t', 'pages of an image');
is(sql($node, "SELECT count(*) FROM page, dsocr_pages(image, '[2,9]') p"), 0, 'none in the range');
is(sql($node, 'SELECT dsocr_overlay(image, 2) IS NULL FROM page'), 't', 'overlay of no page');
like(sql($node, "SELECT encode(substr(dsocr_overlay(image), 1, 8), 'hex') FROM page"), qr/^89504e47/, 'overlay that reads');
like((try_sql($node, verbose('SELECT dsocr_overlay(image, 0) FROM page')))[1], qr/ERROR:  22023/, 'page 0');
like((try_sql($node, verbose("SELECT dsocr_pages('no document'::bytea)")))[1], qr/ERROR:  22P03/, 'no document');
is(sql($node, "SET dsocr.on_error = 'null'; SELECT count(*) FROM dsocr_pages('no document'::bytea)"), 0, 'no rows for it');
is(sql($node, 'SELECT count(*), dsocr_overlay(NULL) IS NULL, dsocr_html(NULL) IS NULL FROM dsocr_pages(NULL)'), '0|t|t', 'NULL');

SKIP:
{
	skip 'qpdf is not installed', 6 unless program('qpdf');
	save($node, 'SELECT dsocr_searchable_pdf(image) FROM page', "$dir/one.pdf");
	output_of('qpdf', '--empty', '--pages', ("$dir/one.pdf") x 5, '--', "$dir/five.pdf");
	sql($node, "INSERT INTO page VALUES ('five', " . bytea(bytes_of("$dir/five.pdf")) . ')');
	is(sql($node, "SELECT string_agg(concat_ws('/', p.page, p.width, p.height), ' ' ORDER BY p.page) FROM page, "
		. "dsocr_pages(image, '[2,3]', dpi => 72) p WHERE name = 'five'"), '2/500/650 3/500/650', 'pages of a PDF');
	is(sql($node, "SELECT string_agg(i.name, ' ') FROM page, dsocr_images(image, pages => '[4,)') i WHERE page.name = 'five'"),
		'images/4_0.jpg images/4_1.jpg images/5_0.jpg images/5_1.jpg', 'names in a document of several pages');
	is(sql($node, "SELECT string_agg(t.page::text, ' ') FROM page, dsocr_tables(image, pages => '[2,5)') t WHERE name = 'five'"),
		'2 3 4', 'tables of pages');
	output_of('qpdf', '--encrypt', 'secret', 'owner', '256', '--', "$dir/five.pdf", "$dir/locked.pdf");
	my $locked = bytea(bytes_of("$dir/locked.pdf"));
	like((try_sql($node, "SELECT dsocr_pages($locked)"))[1], qr/password/, 'locked');
	is(sql($node, "SELECT count(*) FROM dsocr_pages($locked, password => 'secret')"), 5, 'and opened');
	is(sql($node, "SELECT length(dsocr_html($locked, '{\"pages\": []}', password => 'secret')) > 1000"), 't', 'with its images');
}
is_at_baseline($node, 'nothing is left');

done_testing();
