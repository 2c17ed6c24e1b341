# Searchable PDF: a sound file, the images as they were, the text where it belongs.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrFiles;
use DsocrSql;
use JSON::PP;
use PostgreSQL::Test::Utils;

plan skip_all => 'qpdf and poppler-utils are not installed'
  unless program('qpdf') && program('pdftotext');

my $node = document_server('pdf');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $layout = report_layout();
$node->safe_psql('postgres', 'CREATE TABLE report (image bytea, layout jsonb)');
$node->safe_psql('postgres', 'INSERT INTO report VALUES ('
	  . bytea(fixture('documents/report.png')) . ", \$l\$$layout\$l\$)");

# Words of a page as [text, x1, y1, x2, y2], as parts of the page.
sub words
{
	my ($file, @option) = @_;
	my $out = output_of('pdftotext', '-bbox', @option, $file, '-');
	my ($w, $h) = $out =~ /<page width="([\d.]+)" height="([\d.]+)"/;
	my @words;

	utf8::decode($out);
	while ($out =~ m{<word xMin="(\S+)" yMin="(\S+)" xMax="(\S+)" yMax="(\S+)">(.*?)</word>}g)
	{
		push @words, [ $5, $1 / $w, $2 / $h, $3 / $w, $4 / $h ];
	}
	return @words;
}

sub squeezed
{
	my ($text) = @_;
	$text =~ s/<[^>]*>|[#*\s]//g;
	return join '', sort split //, $text;
}

# One page of text, a table and a figure.
save($node, 'SELECT dsocr_searchable_pdf(image, layout) FROM report', "$dir/report.pdf");
like(output_of('qpdf', '--check', "$dir/report.pdf"), qr/No syntax or stream encoding errors/, 'sound');
my @words = words("$dir/report.pdf");
my $page = decode_json($layout)->{pages}[0];
my $margin = 0.02;
my @misplaced = grep {
	my $word = $_;
	!grep {
		my $b = $_->{boxes}[0];
		$word->[1] >= $b->[0] / 1000 - $margin && $word->[3] <= $b->[2] / 1000 + $margin
		  && $word->[2] >= $b->[1] / 1300 - $margin && $word->[4] <= $b->[3] / 1300 + $margin
	} @{ $page->{elements} }
} @words;
is(join(' ', map { $_->[0] } @misplaced), '', 'all words lie in boxes, within 2 % of the page');
for my $element (@{ $page->{elements} })
{
	my $b = $element->{boxes}[0];
	my $inside = join '', map { $_->[0] } grep {
		my ($x, $y) = (($_->[1] + $_->[3]) * 500, ($_->[2] + $_->[4]) * 650);
		$x > $b->[0] && $x < $b->[2] && $y > $b->[1] && $y < $b->[3]
	} @words;

	(my $text = $element->{text}) =~ s/&amp;/&/g;
	$inside =~ s/&amp;/&/g;
	is(squeezed($inside), squeezed($text), "the text of the $element->{type} lies in its box");
}
like(output_of('pdftotext', "$dir/report.pdf", '-'),
	qr/unsafe,\s+and\s+all\s+boats\s+were\s+moved\s+to\s+the\s+inner\s+basin/, 'text in reading order');

# The rows of the PNG go in as they are: what the file holds is what dsocr_pages gives.
my $png = save($node, 'SELECT p.image FROM report r, dsocr_pages(r.image) p', "$dir/page.png");
my ($idat, $at) = ('', 8);
while ($at < length $png)
{
	my ($size, $type) = unpack 'N a4', substr $png, $at, 8;
	$idat .= substr $png, $at + 8, $size if $type eq 'IDAT';
	$at += 12 + $size;
}
ok(index(bytes_of("$dir/report.pdf"), $idat) > 0, 'PNG rows as they are');

# A JPEG goes in byte for byte.
my $jpeg = fixture('samples/recipe.jpg');
my $one = '{"pages": [{"page": 1, "width": 640, "height": 640, "elements": '
  . '[{"type": "text", "boxes": [[20, 20, 300, 60]], "text": "TEXT"}]}]}';
sub with_text { (my $json = $one) =~ s/TEXT/$_[0]/; return "\$l\$$json\$l\$"; }
save($node, 'SELECT dsocr_searchable_pdf(' . bytea($jpeg) . ', ' . with_text('word') . ')', "$dir/jpeg.pdf");
ok(index(bytes_of("$dir/jpeg.pdf"), $jpeg) > 0, 'JPEG as it is');
like(output_of('qpdf', '--check', "$dir/jpeg.pdf"), qr/No syntax/, 'JPEG: sound');

# A scan in a PDF stays the scan that it is, and as large as it is.
save($node, 'SELECT dsocr_searchable_pdf(dsocr_searchable_pdf(' . bytea($jpeg) . ", '{\"pages\": []}', dpi => 300), "
	  . with_text('word') . ')', "$dir/scan.pdf");
ok(index(bytes_of("$dir/scan.pdf"), $jpeg) > 0, 'JPEG of a PDF as it is');
like(output_of('pdfinfo', "$dir/scan.pdf"), qr/Page size:\s+15[34][\d.]* x 15[34]/, 'size of its page');
my ($word) = words("$dir/scan.pdf");
ok(abs($word->[1] - 20 / 640) < 0.02 && abs($word->[3] - 300 / 640) < 0.02, 'place of its text');

# Pages look as they did: to the pixel, at the resolution of the images.
for my $image ('documents/report.png', 'samples/letter.png', 'samples/recipe.jpg')
{
	my $bytes = bytea(fixture($image));
	is(sql($node, "SELECT a.image = b.image FROM dsocr_pages($bytes) a, "
		  . "dsocr_pages(dsocr_searchable_pdf($bytes, '{\"pages\": []}')) b"), 't', "$image looks the same");
}

# Any character of Unicode, and lines from right to left.
my %text = (
	'latin' => 'naïve façade — 25 €',
	'greek and cyrillic' => 'ελληνικά и русский',
	'chinese and japanese' => '中文和日本語のテキスト',
	'beyond the first plane' => '𝔘𝔫𝔦𝔠𝔬𝔡𝔢 😀 𠀋',
	'hebrew' => 'שלום עולם',
	'arabic' => 'مرحبا بالعالم',
);
for my $name (sort keys %text)
{
	save($node, 'SELECT dsocr_searchable_pdf(' . bytea($jpeg) . ', ' . with_text($text{$name}) . ')', "$dir/u.pdf");
	my $out = output_of('pdftotext', "$dir/u.pdf", '-');
	$out =~ s/\xe2\x80[\xaa-\xae]|\s+\z//g;
	is($out, $text{$name}, $name);
}

# A page that lies on its side is shown upright, with its text.
(my $turned = $one) =~ s/"height": 640/"height": 640, "rotation": 90/;
$turned =~ s/\[\[20, 20, 300, 60\]\]/[[20, 60, 80, 600]]/;
$turned =~ s/TEXT/lies on its side/;
save($node, 'SELECT dsocr_searchable_pdf(' . bytea($jpeg) . ", '$turned')", "$dir/turned.pdf");
like(output_of('pdfinfo', "$dir/turned.pdf"), qr/Page rot:\s+90/, 'turned');
my ($first, @others) = words("$dir/turned.pdf");
is(scalar(@others), 3, 'words of the turned page');
ok(abs($first->[1] - 40 / 640) < 0.02 && abs($first->[2] - 20 / 640) < 0.02
	  && abs($others[2][3] - 580 / 640) < 0.02, 'they lie where the upright page has them');

# The size of the page comes from the file, else from dpi.
my %size = ('' => 320, ', dpi => 72' => 640, ', dpi => 2400' => 19.2);
for my $dpi (sort keys %size)
{
	save($node, 'SELECT dsocr_searchable_pdf(' . bytea(fixture('samples/letter.png')) . ', ' . with_text('x') . $dpi . ')',
		"$dir/size.pdf");
	my ($w) = output_of('pdfinfo', "$dir/size.pdf") =~ /Page size:\s+([\d.]+)/;
	is($w, $size{$dpi}, "size of the page$dpi");
}

# Without a layout the document is read; a PDF comes back page by page.
stub_environment('');
save($node, 'SELECT dsocr_searchable_pdf(' . bytea(bytes_of("$dir/turned.pdf")) . ')', "$dir/again.pdf");
like(output_of('pdftotext', "$dir/again.pdf", '-'), qr/stub: \d+ bytes/, 'read without a layout');
output_of('qpdf', '--empty', '--pages', ("$dir/report.pdf", "$dir/jpeg.pdf") x 3, '--', "$dir/many.pdf");
save($node, 'SELECT dsocr_searchable_pdf(' . bytea(bytes_of("$dir/many.pdf")) . ", pages => '[2,5)')", "$dir/some.pdf");
like(output_of('pdfinfo', "$dir/some.pdf"), qr/Pages:\s+3\n/, 'pages of a range');
like(output_of('qpdf', '--check', "$dir/some.pdf"), qr/No syntax/, 'several pages: sound');
is(sql($node, 'SELECT dsocr_searchable_pdf(' . bytea($jpeg) . ", pages => '[2,5)') IS NULL"), 't', 'no such page');
like((try_sql($node, "SELECT dsocr_searchable_pdf('no image'::bytea)"))[1], qr/ERROR:/, 'no document');
is_at_baseline($node, 'nothing is left');

done_testing();
