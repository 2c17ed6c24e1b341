# Answers are kept by the bytes and options they depend on, and by nothing else.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('cache', cache => "'1MB'", pages => 'stub', conf => 'dsocr.max_requests = 16');

# Pages that the engine read and that it did not have to read since the last call.
my $counts = "SELECT coalesce(sum(completed) FILTER (WHERE device IS DISTINCT FROM 'pages'), 0) || ' ' || sum(cache_hits) FROM t.stats()";
sub counted
{
	my ($expected, $name) = @_;
	is(sql($node, $counts), $expected, $name);
	return sql($node, 'SELECT t.reset()');
}
sql($node, 'SELECT t.reset()');

is(sql($node, reading('text=abc')), 'abc', 'first reading');
is(sql($node, reading('text=abc')), 'abc', 'second reading');
counted('1 1', 'the second one came from the cache');

# Everything that changes the answer is in the key.
my $image = image('text=key');
sql($node, "SELECT dsocr_text($image)");
sql($node, 'SELECT t.reset()');
my @others = (
	"SELECT dsocr_markdown($image)",
	"SELECT dsocr_layout($image)",
	"SELECT dsocr_describe($image)",
	"SELECT dsocr_generate($image, 'one')",
	"SELECT dsocr_generate($image, 'two')",
	"SELECT dsocr_text($image, max_tokens => 100)",
	"SELECT dsocr_text($image, mode => 'tiny')",
	"SET dsocr.mode = base; SELECT dsocr_text($image)",
	"SET dsocr.max_tokens = 50; SELECT dsocr_text($image)",
	"SET dsocr.no_repeat_ngram = '20, 90'; SELECT dsocr_text($image)",
	"SET dsocr.no_repeat_ngram = '30, 80'; SELECT dsocr_text($image)",
	"SET dsocr.max_pixels = 90000000; SELECT dsocr_text($image)",
	"SET dsocr.auto_rotate = on; SELECT dsocr_text($image)",
	"SELECT dsocr_text($image || '\\x00'::bytea)");
for my $query (@others)
{
	my ($text) = $query =~ /;?\s*(SELECT.*)/;
	sql($node, $query);
	counted($query =~ /layout/ ? '0 1' : '1 0',
		$query =~ /layout/ ? 'the same task by another name' : "another key: " . ($query =~ s/convert_to.*?'UTF8'\)/image/r));
}
sql($node, "SET dsocr.cache = off; SELECT dsocr_text($image)");
counted('1 0', 'a session that does not use it');

# Results that come from it equal those that were read.
my $result = 'SELECT row_to_json(r)::jsonb #- \'{pages,0,timings}\' FROM (SELECT dsocr_read(' . image('attempts=2;rotation=90;text=same') . ') AS r OFFSET 0) s';
my $read = sql($node, $result);
is(sql($node, $result), $read, 'a whole result');
counted('1 1', 'of which one was read');

# Failures are not kept, nor what is too large.
for (1 .. 2)
{
	my ($status) = $node->psql('postgres', reading('error=1:not an image'));
	isnt($status, 0, 'fails');
}
is(sql($node, 'SELECT sum(failed) FROM t.stats()'), 2, 'failures are not kept');
sql($node, 'SELECT length(x) FROM (' . reading('big=200000') . ') s(x)') for 1 .. 2;
counted('2 0', 'what is too large is not kept');

# It has a size.
sql($node, 'SELECT count(dsocr_text(' . image('text=many') . ' || i::text::bytea)) FROM generate_series(1, 3000) i');
is(sql($node, 'SELECT cache_used <= cache_size AND cache_used > cache_size / 3 AND cache_entries < 3000 FROM t.status()'),
	't', 'full, not more');
sql($node, 'SELECT t.reset()');
sql($node, 'SELECT dsocr_text(' . image('text=many') . " || '3000'::bytea)");
counted('0 1', 'the newest is still there');
sql($node, 'SELECT dsocr_text(' . image('text=many') . " || '1'::bytea)");
counted('1 0', 'the oldest is not');

# Pages of documents are found before they are rendered.
my $pdf = "'%PDF-1.4 STUB:pages=3'::bytea";
my $text = sql($node, "SELECT dsocr_text($pdf)");
counted('3 0', 'pages are read');
is(sql($node, "SELECT dsocr_text($pdf)"), $text, 'the same text');
is(sql($node, "SELECT completed FROM t.stats() WHERE device = 'pages'"), 1, 'the document was opened, no page rendered');
counted('0 3', 'no page was read');
sql($node, "SELECT dsocr_text($pdf, dpi => 72)");
counted('3 0', 'another resolution');

# An encrypted document is opened with its password first.
my $locked = "'%PDF-1.4 STUB:pages=2;password=open'::bytea";
sql($node, "SELECT dsocr_text($locked, password => 'open')");
counted('2 0', 'pages of an encrypted document are read');
for my $password ('NULL', "'wrong'")
{
	my (undef, $error) = try_sql($node, "SELECT dsocr_text($locked, password => $password)");
	like($error, qr/encrypted|password/, "password $password");
}
counted('0 0', 'nothing is read, nothing is given');
sql($node, "SELECT dsocr_text($locked, password => 'open')");
counted('0 2', 'with the password it is there');

# A batch scan counts them.
sql($node, 'CREATE TABLE scans AS SELECT ' . image('text=scan') . " || (i % 5)::text::bytea AS img FROM generate_series(1, 20) i");
like(sql($node, 'EXPLAIN (ANALYZE, COSTS OFF) SELECT dsocr_text(img) FROM scans'),
	qr/Images: 5\n.*Cache Hits: 15\n/s, 'EXPLAIN ANALYZE tells hits');
counted('5 15', 'rows with the same image are read once');

# Cleared by hand, and with the model.
cmp_ok(sql($node, 'SELECT dsocr_cache_clear()'), '>', 8, 'cleared');
is(sql($node, "SELECT cache_entries || ' ' || cache_used FROM t.status()"), '0 0', 'nothing is left');
sql($node, reading('text=abc'));
sql($node, 'CREATE ROLE somebody LOGIN');
my ($status, undef, $error) = end_sql(begin_sql($node, 'SELECT dsocr_cache_clear()', user => 'somebody'));
like($error, qr/permission denied/, 'not by everybody');
$node->append_conf('postgresql.conf', 'dsocr.weights = fp32');
$node->reload;
ok($node->poll_query_until('postgres', "SELECT weights = 'fp32' AND state = 'ready' FROM t.workers() WHERE device = 'cpu'"), 'other weights');
is(sql($node, 'SELECT cache_entries FROM t.status()'), 0, 'another model has nothing');

# The extension comes and goes.
sql($node, 'DROP EXTENSION dsocr CASCADE; DROP SCHEMA t CASCADE');
Dsocr::create_extension($node);
is(sql($node, reading('text=abc')), 'abc', 'the extension was created anew');
is_at_baseline($node, 'nothing is left in use');

# Size 0 is no cache.
$node->append_conf('postgresql.conf', 'dsocr.cache_size = 0');
$node->restart;
wait_for_ready($node);
sql($node, 'SELECT t.reset()');
sql($node, reading('text=abc')) for 1 .. 2;
counted('2 0', 'without a cache');
is(sql($node, "SELECT cache_size || ' ' || cache_used FROM t.status()"), '0 0', 'which takes no memory');

done_testing;
