# What the queue adds to the time of the engine, with the stand-in engine, which
# answers at once: for a query's image, for jobs, and for a folder that is loaded.
#
#   make bench-queue [BENCH_IMAGES=20000] [BENCH_JOBS=100000] [BENCH_ROLES=1] [BENCH_FILES=10000]
use strict;
use warnings;

use Dsocr;
use DsocrLoad;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $images = $ENV{BENCH_IMAGES} // 20000;
my $jobs = $ENV{BENCH_JOBS} // 100000;
my $roles = $ENV{BENCH_ROLES} // 1; # that the jobs belong to, those of one behind those of the other
my $files = $ENV{BENCH_FILES} // 10000;

stub_environment('latency=0');
my $node = new_server('bench', conf => "dsocr.cache = off\nmax_wal_size = 20GB\ncheckpoint_timeout = 1d");

# One image after the other, as a session sees it: into shared memory, to the
# worker, to the engine, and all the way back.
for my $bytes (100, 100_000, 1_000_000)
{
	my $n = $bytes > 100_000 ? int($images / 10) : $images;
	my $p = sql($node, <<"END");
CREATE TEMP TABLE took (ms float8);
DO \$\$
DECLARE
	image bytea := convert_to('STUB:text=x', 'UTF8') || decode(repeat('00', $bytes), 'hex');
	start timestamptz;
BEGIN
	FOR i IN 1 .. $n + 100 LOOP
		start := clock_timestamp();
		PERFORM dsocr_text(image);
		IF i > 100 THEN INSERT INTO took VALUES (extract(epoch FROM clock_timestamp() - start) * 1000); END IF;
	END LOOP;
END \$\$;
SELECT string_agg(round(q::numeric, 3)::text, ' ') FROM unnest((SELECT percentile_cont(ARRAY[0.5, 0.9, 0.99, 0.999]) WITHIN GROUP (ORDER BY ms) FROM took)) q
END
	my ($half, $nine, $p99, $p999) = split / /, $p;
	diag("an image of $bytes bytes, $n times: $half ms at the median, $nine at 90 %, $p99 at 99 %, $p999 at 99.9 %");
	cmp_ok($half, '>', 0, 'was measured');
}

sql($node, join ';', map { "CREATE ROLE r$_" } 1 .. $roles);
my $start = time;
sql($node, join ';', 'BEGIN', (map {
	"SET LOCAL ROLE r$_; SELECT count(dsocr_enqueue(convert_to('STUB:text=job ' || i, 'UTF8'))) FROM generate_series($_, $jobs, $roles) i"
} 1 .. $roles), 'COMMIT');
my $queued = time;
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.job_queue') eq '0' }, 3600), 'all jobs ended');
diag(sprintf '%d jobs of %d roles: queued in %.1f s, done in %.1f s after that, %.0f jobs/s', $jobs, $roles, $queued - $start, time - $queued, $jobs / (time - $queued));
is(sql($node, q{SELECT state, count(*) FROM dsocr.jobs GROUP BY 1}), "done|$jobs", 'with a result each');

if (can_load())
{
	my $dir = PostgreSQL::Test::Utils::tempdir_short();
	put($dir, sprintf('%02d/%06d.png', $_ % 100, $_), document("text=$_;" . 'x' x 50_000)) for 1 .. $files;
	$start = time;
	my ($rc, $out, $err) = load_files($node, '--table', 'scans', '--create', $dir);
	is($rc, 0, 'loaded') or diag($err);
	my $took = time - $start;
	is(sql($node, 'SELECT count(*) FROM scans'), $files, 'a row for each file');
	diag(sprintf '%d files of 50 kB loaded in %.1f s: %.0f files/s', $files, $took, $files / $took);
}
$node->stop;
done_testing();
