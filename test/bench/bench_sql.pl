# Pages a second of the built-in model: the engine alone, a query that reads ahead,
# and the same query row by row, in turns within one run.
#
#   make bench-sql [BENCH_PAGES=1000] [BENCH_ROUNDS=3]
use strict;
use warnings;

use Dsocr;
use DsocrFiles;
use DsocrSql;
use IPC::Run qw(run);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $pages = $ENV{BENCH_PAGES} // 1000;
my $rounds = $ENV{BENCH_ROUNDS} // 3;
my $engine = program('dsocr-engine');
my $node = new_server('bench', conf => "dsocr.engine_path = '$engine'\ndsocr.model = ''\ndsocr.mode = small\nmax_parallel_workers_per_gather = 0\ndsocr.cache = off");
my $dir = PostgreSQL::Test::Utils::tempdir();

# No two pages have the same bytes: a number behind the end of the image, which decoders pass over.
sql($node, 'CREATE TABLE page (id int PRIMARY KEY, image bytea)');
my @samples = sort glob("$ENV{DSOCR_TOP}/test/samples/*.png"), glob("$ENV{DSOCR_TOP}/test/samples/*.jpg");
my @files = map { sprintf '%s/%05d', $dir, $_ } 1 .. $pages;
for my $i (1 .. $pages)
{
	open my $file, '>:raw', $files[ $i - 1 ] or die "open: $!";
	print $file slurp_file($samples[ $i % @samples ]), pack('N', $i);
	close $file;
}
sql($node, "INSERT INTO page SELECT i, pg_read_binary_file('$dir/' || lpad(i::text, 5, '0')) FROM generate_series(1, $pages) i; ANALYZE page");

# Each way reads the files of one slice; characters show that all of them read the same.
my %way = (
	'engine alone' => sub {
		my ($first, $last) = @_;
		my ($out, $err);
		run [ $engine, 'ocr', '--mode', 'small', @files[ $first - 1 .. $last - 1 ] ], '>', \$out, '2>', \$err or die $err;
		return length $out;
	},
	map {
		my $setting = $_;
		("SQL, batch_scan $setting" => sub {
			my ($first, $last) = @_;
			return sql($node, "SET dsocr.batch_scan = $setting; SELECT sum(length(dsocr_markdown(image))) FROM page WHERE id BETWEEN $first AND $last");
		})
	} qw(on off));

my (%seconds, %characters);
$_->(1, @samples + 0) for values %way;
for my $round (1 .. $rounds)
{
	my ($first, $last) = (int(($round - 1) * $pages / $rounds) + 1, int($round * $pages / $rounds));
	for my $name (sort keys %way)
	{
		my $start = time;
		$characters{$name} += $way{$name}->($first, $last);
		push @{ $seconds{$name} }, (time - $start) / ($last - $first + 1);
	}
}
my $median = sub { my @s = sort { $a <=> $b } @{ $seconds{ $_[0] } }; return $s[ $#s / 2 ] };
my $base = $median->('engine alone');
diag(sprintf '%d pages in %d rounds, medians', $pages, $rounds);
for my $name (sort keys %way)
{
	diag(sprintf '%-22s %7.2f pages/s %6.2f of the engine alone, %d characters', $name, 1 / $median->($name),
		$base / $median->($name), $characters{$name});
}
is($characters{'SQL, batch_scan on'}, $characters{'SQL, batch_scan off'}, 'the same text');
$node->stop;
done_testing();
