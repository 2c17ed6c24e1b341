# The examples of docs/search.md, as they stand there: words and places, pg_trgm,
# and pgvector where the server has it.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

# The SQL of a section.
my $page = slurp_file("$ENV{DSOCR_TOP}/docs/search.md");
sub example
{
	my ($title, $n) = @_;
	my ($section) = $page =~ /^## \Q$title\E\n(.*?)(?=^## |\z)/ms or die "no section $title";
	my @blocks = $section =~ /^```sql\n(.*?)^```/msg;
	return $blocks[ $n // 0 ] // die "no example in $title";
}

stub_environment('latency=0');
my $node = new_server('search_examples');
my ($attach, $search) = $page =~ /^```sql\n(SELECT dsocr_attach.*?;)\n(.*?)^```/ms;
sql($node, "CREATE TABLE scans (id int PRIMARY KEY, image bytea); $attach");
my @texts = ('the harbour fee is due', 'the harbor is closed', 'an invoice with a net total', 'a draft of an invoice, net total', 'something else', 'total of all fees');
for my $i (0 .. $#texts)
{
	my $element = "<|ref|>text<|/ref|><|det|>[[600, 700, 900, 750]]<|/det|>\n$texts[$i]";
	sql($node, "INSERT INTO scans VALUES ($i + 1, convert_to('STUB:text=$element', 'UTF8'))");
}
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM scan_pages WHERE status = $$ok$$') eq @texts }, 60), 'all were read');

like(sql($node, $search), qr/^\{"id": 3\}\|1\|.*<mark>net<\/mark> <mark>total<\/mark>.*\|\[\{.*"box"/, 'words');
my @found = split /\n/, sql($node, example('By place'));
is(scalar(grep { /^\{"id": [346]\}\|1\|.*total/ } @found), 3, 'places') or diag("@found");

SKIP:
{
	skip('no pg_trgm', 2) unless sql($node, q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'});
	my $found = sql($node, example('Words that were misread'));
	like($found, qr/^1\|1\|1\n2\|1\|0\.[0-9]+\n/, 'words that were misread');
	like($found, qr/\n2\|1\|harbor\|\(\d+,\d+\),\(\d+,\d+\)$/m, 'and where they are');
}
SKIP:
{
	skip('no pgvector', 1) unless sql($node, q{SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'});
	my ($table, $query) = example('By meaning') =~ /^(.*?;\n)\n(WITH.*)/s;
	my $of = sub { my ($id) = @_; return "('[' || $_[0] || repeat(',0', 382) || ',1]')::vector" };
	sql($node, "CREATE EXTENSION vector; $table UPDATE scan_pages SET embedding = " . $of->('id') );
	$query =~ s/\$1/$of->(6)/e;
	my @rows = split /\n/, sql($node, $query);
	is($rows[0] =~ s/\|[^|]*$//r, '1|1', 'the best by words, and among those near by meaning') or diag("@rows");
}
$node->stop;
done_testing();
