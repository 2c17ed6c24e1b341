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
$node->stop;
done_testing();
