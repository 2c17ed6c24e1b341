# Documents of several pages by a worker on another host with the real engine,
# the built-in model and the real page server: what the server's own give, to
# the last digit.
use strict;
use warnings;

use Dsocr;
use DsocrFiles;
use DsocrJoin;
use DsocrPdf;
use DsocrSql;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

plan(skip_all => 'built without libpq') unless can_join();
my $engine = program('dsocr-engine');
my $node = new_server('join_model', no_wait => 1, pages => 'real', conf => <<"END");
listen_addresses = '127.0.0.1'
dsocr.engine_path = '$engine'
dsocr.model = ''
dsocr.max_tokens = 200
dsocr.max_attempts = 1
END
grant_join($node);
wait_for_ready($node);
my $dir = PostgreSQL::Test::Utils::tempdir_short();

# A TIFF of the pages in PGM or PPM files.
sub tiff_of
{
	my ($path, @files) = @_;
	my $out = pack 'a2vV', 'II', 42, 8;

	for my $i (0 .. $#files)
	{
		my ($kind, $width, $height, $bytes) = slurp_file($files[$i]) =~ /\AP([56])\s(\d+)\s(\d+)\s255\s(.*)\z/s or die $files[$i];
		my $colours = $kind == 6 ? 3 : 1;
		my @tags = ([256, 3, $width], [257, 3, $height], [258, 3, 8], [259, 3, 1], [262, 3, $colours == 3 ? 2 : 1], [273, 4, 0],
			[277, 3, $colours], [278, 3, $height], [279, 4, length $bytes]);
		my $at = length($out) + 2 + 12 * @tags + 4;

		if ($colours == 3)
		{
			# three times 8 bits do not fit into the tag
			$tags[2] = [258, 3, $at, 3];
			$bytes = pack('v3', 8, 8, 8) . $bytes;
			$tags[5][2] = $at + 6;
		}
		else { $tags[5][2] = $at; }
		$out .= pack 'v', scalar @tags;
		$out .= pack 'vvVV', $_->[0], $_->[1], $_->[3] // 1, $_->[2] for @tags;
		$bytes .= "\0" if length($bytes) % 2;
		$out .= pack 'V', $i < $#files ? $at + length $bytes : 0;
		$out .= $bytes;
	}
	open my $file, '>:raw', $path or die "$path: $!";
	print $file $out;
	close $file;
	return $path;
}

my @pages;
for my $name ('letter', 'receipt', 'notice')
{
	IPC::Run::run([ 'dsocr-pages', 'render', '--raw', "$ENV{DSOCR_TOP}/test/samples/$name.png", "$dir/$name.ppm" ], '2>', "$dir/log") or die slurp_file("$dir/log");
	push @pages, "$dir/$name.ppm";
}
load_file($node, 'tiff', tiff_of("$dir/scan.tif", @pages));
sql($node, q{INSERT INTO document SELECT 'pdf', dsocr_searchable_pdf(bytes, dsocr_layout(bytes)) FROM document});
load_file($node, 'white', pdf_file("$dir/white.pdf", 3));
append_to_file("$dir/broken.pdf", "%PDF-1.4\nnothing else\n");
load_file($node, 'broken', "$dir/broken.pdf");

sub read_all
{
	my ($table, $code) = @_;

	sql($node, "CREATE TABLE $table AS SELECT name, dsocr_enqueue(bytes) AS job FROM document");
	$code->();
	ok(wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.job_queue') eq '0' }, 300), "$table: all have ended");
	return sql($node, "SELECT name, error, regexp_replace(result::text, '\"timings\": [{][^}]*[}]', '', 'g')"
		. " FROM $table LEFT JOIN dsocr.job_done AS d ON d.id = job LEFT JOIN dsocr.job_failed AS f ON f.id = job ORDER BY name");
}
my $here = read_all('here', sub { });
my ($rc, $log);
sql($node, 'ALTER SYSTEM SET dsocr.run_jobs = remote');
sql($node, 'SELECT pg_reload_conf()');
ok(wait_until(sub { sql($node, 'SHOW dsocr.run_jobs') eq 'remote' }), 'the server reads no documents any more');
my $there = read_all('there', sub {
	my $run = IPC::Run::start([ 'dsocr-engine', 'join', '--threads', '1', '--once', conninfo($node) ], '>', "$dir/worker", '2>&1');
	$run->finish;
	$rc = $? >> 8;
});
is($rc, 0, 'ended') or diag slurp_file("$dir/worker");
like($here, qr/"page_count": 3/, 'documents of three pages');
like($here, qr/<!-- page 3 -->/, 'all of them read');
is($there, $here, 'the same from afar');
unlike(log_of($node), qr/PANIC|TRAP|signal 11/, 'nothing in the log');
$node->stop;
done_testing();
