# The memory of the queue: what was counted free can be used, in one piece,
# whatever was there before, and goes back to the system.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('slots=64');
my $node = new_server('memory', conf => <<'END');
dsocr.queue_memory = 64MB
dsocr.queue_timeout = 3s
max_connections = 60
dynamic_shared_memory_type = mmap
END
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

# Length of what is read from a page of so many bytes.
sub page
{
	my ($bytes, $commands) = @_;
	return "SELECT dsocr_generate(convert_to('STUB:$commands' || chr(10) || "
	  . "repeat(' ', $bytes), 'UTF8'), 'x');";
}

# Bytes of shared memory that came after start-up.
sub segments
{
	return $node->safe_psql('postgres', <<'END');
SELECT coalesce(sum((pg_stat_file('pg_dynshmem/' || f)).size), 0) FROM pg_ls_dir('pg_dynshmem') AS f
END
}

my $before = segments();
my @readers = map { begin_sql($node, page(1_000_000, 'sleep=2;big=5')) } 1 .. 48;
my $good = 0;
for (@readers)
{
	my ($rc, $out) = end_sql($_);
	$good++ if $rc == 0 && $out eq 'xxxxx';
}
is($good, 48, '48 pages of 1 MB together');
is_at_baseline($node, 'after small pages');
is(segments(), $before, 'their memory has gone back to the system');

my ($rc, $out, $err) = $node->psql('postgres', page(50_000_000, 'sleep=0;big=7'));
is($err, '', 'a page of 50 MB has room when nothing else is there');
is($out, 'xxxxxxx', 'it is read');
is_at_baseline($node, 'after a large page');
is(segments(), $before, 'its memory too');
server_is_same($node, $started, 'server was not restarted');

# Memory that cannot be mapped costs its own page, not the worker and others.
stub_environment('slots=1');
$node->restart;
wait_for_ready($node);
my $engine = engine_pid($node);
my @inside = map { begin_sql($node, page(1_000_000, 'sleep=1;big=5')) } 1 .. 3;
$node->poll_query_until('postgres', "SELECT count(*) = 3 FROM t.requests() WHERE state = 'running'");
my $lost = begin_sql($node, "\\set VERBOSITY verbose\n" . page(2_000_000, 'big=5'));
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM t.requests() WHERE state = 'queued'");
my @files = grep { -s $_ > 2_000_000 } glob($node->data_dir . '/pg_dynshmem/*');
is(scalar @files, 1, 'its segment');
unlink @files;
like((end_sql($lost))[2], qr/53200: could not map the memory of the request/, 'a page without its memory fails');
is(join(' ', (end_sql($_))[ 0, 1 ]), '0 xxxxx', 'another is read') for @inside;
is(engine_pid($node), $engine, 'by the same engine');
is_at_baseline($node, 'after a lost page');
$node->stop;
done_testing();
