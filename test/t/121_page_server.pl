# The page server dies, hangs, is missing; documents are given up.
use strict;
use warnings;
use Test::More;
use Time::HiRes qw(time);
use Dsocr;
use DsocrSql;

my $node = new_server('pages', pages => 'stub', conf => "dsocr.engine_timeout = 4s\nlog_min_messages = info");
my $started = sql($node, 'SELECT pg_postmaster_start_time()');
my $files = $node->basedir;

sub pdf
{
	my ($commands) = @_;
	return "'%PDF-1.4 STUB:$commands'::bytea";
}

sub server_pid
{
	return sql($node, "SELECT engine_pid FROM t.workers() WHERE device = 'pages'");
}

# what 20 pages give
my $whole = sql($node, 'SELECT dsocr_text(' . pdf('pages=20') . ')');

# it dies on a page once, and while it opens a document
is(sql($node, 'SELECT dsocr_text(' . pdf("pages=20;crash-once7=$files/once7") . ')'), $whole, 'died on a page');
is(sql($node, 'SELECT dsocr_text(' . pdf("pages=20;open-crash-once=$files/open") . ')'), $whole, 'died on a document');
is(sql($node, "SELECT state, restarts FROM t.workers() WHERE device = 'pages'"), 'ready|2', 'was started again');

# it dies again and again: of that page, of that document
is(sql($node, "SELECT string_agg(status, ' ' ORDER BY page) FROM dsocr_blocks(" . pdf('pages=5;crash3') . ')'),
	'ok ok engine_error ok ok', 'a deadly page costs itself alone');
my ($out, $err) = try_sql($node, verbose 'SELECT dsocr_text(' . pdf('pages=5;open-crash') . ')');
like($err, qr/ERROR:  58000: the page server died/, 'a deadly document');

# killed from outside while several sessions read; single images go on
my @sessions = map { begin_sql($node, 'SELECT dsocr_text(' . pdf('pages=20;sleep=0.05') . ')') } 1 .. 3;
wait_until(sub { sql($node, "SELECT count(*) FROM t.requests() WHERE state = 'open'") eq '3' });
kill 'KILL', server_pid();
is(sql($node, "SELECT dsocr_text('STUB:text=image')"), 'image', 'images need no page server');
for my $session (@sessions)
{
	my ($rc, $text, $error) = end_sql($session);
	is($text, $whole, 'a reading survived its page server') or diag($error);
}

# a document that is open and idle is no hang
is(sql($node, 'SELECT dsocr_text(' . pdf('pages=2;page1=sleep=1,text=a;page2=sleep=5,progress=20,text=b') . ')'),
	"a\n\n<!-- page 2 -->\n\nb", 'nothing asked for longer than dsocr.engine_timeout');
my $pid = server_pid();
($out, $err) = try_sql($node, verbose 'SELECT dsocr_text(' . pdf('pages=2;sleep=60') . ')');
like($err, qr/ERROR:  58000: .*died/, 'a page server that is silent is replaced');
isnt(server_pid(), $pid, 'so it was');

# given up: cancelled, timed out, terminated, in subtransactions
for my $how ('pg_cancel_backend', 'pg_terminate_backend')
{
	my $session = begin_sql($node, 'SELECT dsocr_text(' . pdf('pages=3000;sleep=0.01') . ')');
	wait_until(sub { sql($node, "SELECT count(*) FROM t.requests() WHERE page > 20") ne '0' });
	my $start = time;
	sql($node, "SELECT $how(pid) FROM t.requests() LIMIT 1");
	end_sql($session);
	my $took = time - $start;
	cmp_ok($took, '<', 15, sprintf('%s: ended in %.2f s', $how, $took));
	is_at_baseline($node, "nothing is left after $how");
}
($out, $err) = try_sql($node, "SET statement_timeout = 300; SELECT dsocr_text(" . pdf('pages=3000;sleep=0.01') . ')');
like($err, qr/statement timeout/, 'statement_timeout');
($out, $err) = try_sql($node, "SET dsocr.timeout = 300; SELECT dsocr_text(" . pdf('pages=3;page3=sleep=60') . ')');
like($err, qr/dsocr.timeout/, 'dsocr.timeout of a page');
is(sql($node, "SET dsocr.timeout = 3000; SELECT length(dsocr_text(" . pdf('pages=20;sleep=0.2') . '))'),
	length $whole, 'dsocr.timeout is of a page, not of the document');
is(sql($node, 'DO $$ DECLARE i int; BEGIN FOR i IN 1..50 LOOP BEGIN PERFORM dsocr_text(' .
	pdf('pages=9;page5=error=1:x') . ") ; EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END \$\$; SELECT 'done'"),
	'done', 'exception blocks');
is_at_baseline($node, 'nothing is left');

# a reload with documents open
my $session = begin_sql($node, 'SELECT dsocr_text(' . pdf('pages=20;sleep=0.05') . ')');
wait_until(sub { sql($node, "SELECT count(*) FROM t.requests() WHERE state = 'open'") eq '1' });
sql($node, 'SELECT t.reload()');
is((end_sql($session))[1], $whole, 'a reload waits for documents');

# databases
sql($node, 'CREATE DATABASE other');
sql($node, 'CREATE EXTENSION dsocr', db => 'other');
$session = begin_sql($node, 'SELECT dsocr_text(' . pdf('pages=3000;sleep=0.01') . ')', db => 'other');
wait_until(sub { sql($node, "SELECT count(*) FROM t.requests() WHERE page > 5") ne '0' });
my $start = time;
sql($node, 'DROP DATABASE other WITH (FORCE)');
cmp_ok(time - $start, '<', 15, 'DROP DATABASE while a document is read');
end_sql($session);

# a role with one request at a time reads documents
sql($node, 'CREATE ROLE little LOGIN');
sql($node, 'ALTER ROLE little SET dsocr.max_requests_per_role = 1');
is(sql($node, 'SELECT dsocr_text(' . pdf('pages=20') . ')', user => 'little'), $whole, 'one request at a time');
is_at_baseline($node, 'nothing is left at the end');
server_is_same($node, $started, 'no backend was restarted');
$node->stop;

# no page server
$node->append_conf('postgresql.conf', "dsocr.pages_path = '/nowhere/dsocr-pages'\n");
$node->start;
($out, $err) = try_sql($node, verbose 'SELECT dsocr_text(' . pdf('pages=2') . ')');
like($err, qr/ERROR:  58000: could not run the page server: No such file/, 'the program is missing');
is(sql($node, "SELECT dsocr_text('STUB:text=image')"), 'image', 'images can be read');
$node->append_conf('postgresql.conf', "dsocr.page_server = off\n");
$node->restart;
($out, $err) = try_sql($node, verbose 'SELECT dsocr_text(' . pdf('pages=2') . ')');
like($err, qr/ERROR:  58000: the page server, which opens documents, is switched off\nHINT:  .*dsocr.page_server/, 'switched off');
is(sql($node, 'SELECT sqlstate FROM dsocr_try(' . pdf('pages=2') . ')'), '58000', 'dsocr_try');
done_testing();
