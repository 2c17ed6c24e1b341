# The page server itself: long documents, memory, deaths.
use strict;
use warnings;
use Test::More;
use Time::HiRes qw(time usleep);
use Dsocr;
use DsocrPdf;
use DsocrSql;

stub_environment('latency=1');
my $node = new_server('pdf', pages => 'real');
my $started = sql($node, 'SELECT pg_postmaster_start_time()');
my $pages = $ENV{DSOCR_LONG_DOCUMENT} // 3000;

load_file($node, 'long', pdf_file($node->basedir . '/long.pdf', $pages));
load_file($node, 'short', pdf_file($node->basedir . '/short.pdf', 40));
load_file($node, 'tiff', tiff_file($node->basedir . '/three.tif', 3));
load_file($node, 'one', tiff_file($node->basedir . '/one.tif', 1));

# The stand-in for the engine tells the bytes of an image, which tell the page.
sub is_in_order
{
	my ($text, $n, $name) = @_;
	my @bytes = $text =~ /^stub: (\d+) bytes$/mg;
	my @marks = $text =~ /^<!-- page (\d+) -->$/mg;
	my $ordered = @bytes == $n && !grep { $bytes[$_] <= $bytes[ $_ - 1 ] } 1 .. $#bytes;

	ok($ordered, "$name: $n pages in order") or diag('pages: ' . @bytes);
	return is("@marks", join(' ', 2 .. $n), "$name: marks");
}

my $read = sub { "SELECT dsocr_text(bytes, dpi => 72) FROM document WHERE name = '$_[0]'" };
like(sql($node, $read->('one')), qr/^stub: \d+ bytes$/, 'a TIFF of one page goes to the engine');
is(sql($node, "SELECT completed FROM t.stats() WHERE device = 'pages'"), '0', 'and not to the page server');
is_in_order(sql($node, $read->('tiff')), 3, 'TIFF');
is_in_order(sql($node, $read->('short')), 40, 'PDF');

# memory of every process while a long document is read
my ($postmaster) = slurp_pid($node);
my %most;
my $start = time;
my $session = begin_sql($node, $read->('long'));
while ($session->{run}->pumpable)
{
	my %tree = process_tree($postmaster);

	for my $pid (keys %tree)
	{
		my $name = $tree{$pid}{name};
		$most{$name} = $tree{$pid}{memory} if $tree{$pid}{memory} > ($most{$name} // 0);
	}
	usleep(50_000);
}
my ($rc, $text, $err) = end_sql($session);
my $seconds = time - $start;
is_in_order($text, $pages, 'long PDF');
diag(sprintf '%d pages in %.1f s; private memory, MB: %s', $pages, $seconds,
	join ', ', map { sprintf '%s %.1f', $_, $most{$_} / 1e6 } sort keys %most);
cmp_ok($most{postgres}, '<', 64e6, 'backends and workers stay small');
cmp_ok($most{'dsocr-pages'}, '<', 128e6, 'so do the page server and its renderers');
is_at_baseline($node, 'nothing is left');

# cancel
$session = begin_sql($node, $read->('long'));
wait_until(sub { sql($node, 'SELECT count(*) FROM t.requests() WHERE page > 50') ne '0' });
$start = time;
sql($node, 'SELECT pg_cancel_backend(pid) FROM t.requests() LIMIT 1');
end_sql($session);
my $took = time - $start;
cmp_ok($took, '<', 15, sprintf('cancelled in %.2f s', $took));
is_at_baseline($node, 'nothing is left of it');
ok(wait_until(sub { my %t = process_tree($postmaster); 1 == grep { $_->{name} eq 'dsocr-pages' } values %t }, 30),
	'its renderers are gone');

# deaths
$session = begin_sql($node, "SELECT jsonb_path_query_array(pages, '\$[*].status') FROM document, dsocr_read(bytes) WHERE name = 'long'");
for my $round (1 .. 3)
{
	wait_until(sub { sql($node, 'SELECT count(*) FROM t.requests() WHERE page > ' . 100 * $round) ne '0' });
	my $server = sql($node, "SELECT engine_pid FROM t.workers() WHERE device = 'pages'");
	my %tree = process_tree($server);
	kill 'KILL', grep { $_ != $server } keys %tree;
}
wait_until(sub { sql($node, 'SELECT count(*) FROM t.requests() WHERE page > 500') ne '0' });
kill 'KILL', sql($node, "SELECT engine_pid FROM t.workers() WHERE device = 'pages'");
my @status = (end_sql($session))[1] =~ /"(\w+)"/g;
my $lost = grep { $_ ne 'ok' } @status;
is(scalar @status, $pages, 'renderers and the page server were killed: each page has a status');
cmp_ok($lost, '<=', 12, 'only pages that were in work may be lost') or diag("lost: $lost");
diag("$lost pages lost to killed renderers");
my %tree = process_tree($postmaster);
server_is_same($node, $started, 'no backend was restarted');
$node->stop;
ok(!grep({ alive($_) && $tree{$_}{name} eq 'dsocr-pages' } keys %tree), 'no process is left behind');
done_testing();

sub slurp_pid
{
	my ($server) = @_;

	open my $file, '<', $server->data_dir . '/postmaster.pid' or die $!;
	my $pid = <$file>;
	return $pid + 0;
}
