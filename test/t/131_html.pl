# The HTML page in a real browser: both sides light up, nothing gets out or in.
# DSOCR_PICTURES=docs/images makes the pictures of the documentation anew.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrBrowser;
use DsocrFiles;
use DsocrSql;
use PostgreSQL::Test::Utils;

my $dir = PostgreSQL::Test::Utils::tempdir();
mkdir "$dir/profile" or die "mkdir: $!";
my $browser = DsocrBrowser->start(profile => "$dir/profile", width => 1280, height => 860)
  or plan skip_all => 'chromium is not installed';

my $node = document_server('html');
my $pictures = $ENV{DSOCR_PICTURES} // $dir;
my $layout = report_layout();
$node->safe_psql('postgres', 'CREATE TABLE report (image bytea, layout jsonb)');
$node->safe_psql('postgres', 'INSERT INTO report VALUES ('
	  . bytea(fixture('documents/report.png')) . ", \$l\$$layout\$l\$)");

sub open_html
{
	my ($sql) = @_;
	save($node, $sql, "$dir/page.html", text => 1);
	$browser->events('Log.entryAdded');
	$browser->events('Network.requestWillBeSent');
	$browser->open_file("$dir/page.html");
	return;
}

# The middle of an element.
sub middle
{
	my ($selector) = @_;
	return @{ $browser->value("(() => { const r = document.querySelector('$selector').getBoundingClientRect(); "
			  . 'return [r.left + r.width / 2, r.top + Math.min(r.height / 2, 12)] })()') };
}

sub lit
{
	return $browser->value("[...document.querySelectorAll('.on')].map(e => e.tagName.toLowerCase() + e.dataset.b).join(' ')");
}

open_html('SELECT dsocr_html(image, layout) FROM report');
is($browser->value("document.querySelectorAll('.scan rect').length"), 10, 'a box for each element');
is($browser->value("document.querySelectorAll('td').length + '/' + document.querySelectorAll('th').length"),
	'12/5', 'the table is one');
is($browser->value("document.querySelector('th').rowSpan"), 2, 'with its spans');
is($browser->value("document.querySelector('h2').textContent"), 'The North Pier in 1931', 'the title is one');
is(lit(), '', 'nothing is lit');

# Hover on either side, keyboard, click.
$browser->mouse('mouseMoved', middle('.text [data-b="1-3"]'));
is(lit(), 'rect1-3 div1-3', 'hover over the text');
open my $file, '>:raw', "$pictures/html.png" or die "html.png: $!";
print $file $browser->screenshot;
close $file;
cmp_ok(-s "$pictures/html.png", '>', 20000, 'picture of the page');
$browser->mouse('mouseMoved', middle('.scan rect[data-b="1-5"]'));
is(lit(), 'rect1-5 div1-5', 'hover over the scan');
$browser->mouse('mouseMoved', 2, 2);
is(lit(), '', 'nowhere');
$browser->press('Tab') for 1 .. 2;
is(lit(), 'rect1-2 div1-2', 'keyboard');
$browser->resize(1280, 300);
$browser->value('scrollTo(0, 0)');
for my $type (qw(mousePressed mouseReleased))
{
	$browser->mouse($type, middle('.scan rect[data-b="1-1"]'));
}
$browser->value("document.querySelector('.scan rect[data-b=\"1-10\"]').dispatchEvent(new MouseEvent('click', {bubbles: true}))");
ok(wait_until(sub { $browser->value('scrollY') > 100 }, 10), 'a click scrolls to the text');
$browser->resize(1280, 860);

# Nothing was loaded but the file, and the policy had nothing to complain about.
is(join(' ', grep { !/^data:/ } map { $_->{params}{request}{url} } $browser->events('Network.requestWillBeSent')),
	"file://$dir/page.html", 'nothing else is loaded');
is(join(' ', map { $_->{params}{entry}{text} } $browser->events('Log.entryAdded')), '', 'no complaint');

# What a hostile page says is text.
my $evil = '<script>window.evil=1</script><img src=x onerror=window.evil=2><svg onload=window.evil=3>'
  . '</div></section></body>' . q(" onmouseover="window.evil=4" x=") . '<table onclick=window.evil=5 style=position:fixed>'
  . '<tr><td onclick=window.evil=6 colspan=2>cell<script>window.evil=7</script></td></tr></table>&lt;script>window.evil=8&lt;/script>'
  . '<a href=javascript:window.evil=9>link</a><style>*{display:none}</style><meta http-equiv=refresh content=0>';
my $jsonb = "(SELECT jsonb_set(jsonb_set(jsonb_set(layout, '{pages,0,elements,2,text}', to_jsonb(e)), "
  . "'{pages,0,elements,1,type}', to_jsonb(e)), '{pages,0,status}', to_jsonb(e)) FROM report, (SELECT \$e\$$evil\$e\$::text) e(e))";
open_html("SELECT dsocr_html(image, $jsonb) FROM report");
$browser->value("document.querySelectorAll('*').forEach(e => { for (const t of ['click', 'mouseover', 'load', 'error']) "
	  . 'e.dispatchEvent(new Event(t)) })');
is($browser->value('typeof window.evil'), 'undefined', 'no script of the page runs');
is($browser->value("document.querySelectorAll('script').length + ' ' + document.querySelectorAll('style').length"
	  . " + ' ' + document.querySelectorAll('img, a, [onclick], [style], [onerror]').length"), '1 1 0', 'no element of the page is one');
like($browser->value("document.querySelector('.text').textContent"), qr/<script>window\.evil=1<\/script>/, 'but its text');
is($browser->value("document.querySelectorAll('.text > div').length"), 10, 'the structure holds');

# The policy alone would stop a script too.
is($browser->value("(() => { const s = document.createElement('script'); s.textContent = 'window.evil = 10'; "
	  . 'document.body.append(s); return typeof window.evil })()'), 'undefined', 'the policy holds');

# Many pages; a page that lies on its side; one that could not be read.
my $many = '(SELECT jsonb_build_object(\'pages\', jsonb_agg(jsonb_set(jsonb_set(layout->\'pages\'->0, \'{page}\', to_jsonb(n)), '
  . '\'{rotation}\', CASE n WHEN 2 THEN \'90\' ELSE \'0\' END::jsonb) ORDER BY n)) FROM report, generate_series(1, 100) n WHERE n <> 3)';
SKIP:
{
	skip 'qpdf is not installed', 5 unless program('qpdf');
	save($node, 'SELECT dsocr_searchable_pdf(image) FROM report', "$dir/one.pdf");
	output_of('qpdf', '--empty', '--pages', ("$dir/one.pdf") x 100, '--', "$dir/many.pdf");
	open_html('SELECT dsocr_html(' . bytea(bytes_of("$dir/many.pdf")) . ", $many, dpi => 40)");
	is($browser->value("document.querySelectorAll('section').length"), 100, 'a hundred pages');
	is($browser->value("document.querySelectorAll('#page-3 .text > div').length"), 0, 'one without text');
	is($browser->value("(b => b.width + ' x ' + b.height)(document.querySelector('#page-2 svg').viewBox.baseVal)"),
		'1300 x 1000', 'the turned page lies upright');
	$browser->value("document.querySelector('#page-100').scrollIntoView()");
	ok(wait_until(sub { $browser->value("Math.abs(document.querySelector('#page-100').getBoundingClientRect().top) < 900") }, 10),
		'the last page can be reached');
	$browser->mouse('mouseMoved', middle('#page-100 .text [data-b="100-3"]'));
	is(lit(), 'rect100-3 div100-3', 'and lights up');
}

# The overlay of the documentation.
save($node, 'SELECT dsocr_overlay(image, 1, layout) FROM report', "$pictures/overlay.png");
is(unpack('x16 N', bytes_of("$pictures/overlay.png")), 1000, 'overlay');

$browser->stop;
is_at_baseline($node, 'nothing is left');
done_testing();
