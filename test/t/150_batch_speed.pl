# A query keeps the engine busy, and does not pay for it row by row.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;
use Time::HiRes qw(time);

stub_environment('latency=20;slots=64');
my $node = new_server('batch_speed', conf => "dsocr.max_requests = 128");
sql($node, q{CREATE TABLE scan AS SELECT i AS id, convert_to('STUB:text=text ' || i, 'UTF8') AS img FROM generate_series(1, 1000) i; ANALYZE});

# Seconds that a query takes within a session.
sub seconds
{
	my ($settings, $query) = @_;
	my $out = sql($node, "$settings; SELECT count(dsocr_text('STUB:text=first')); SELECT extract(epoch FROM clock_timestamp()) AS before \\gset
$query;
SELECT extract(epoch FROM clock_timestamp()) - :before");
	return (split /\n/, $out)[-1];
}
my $ahead = 'SET dsocr.prefetch = 96';
my $rows = seconds('SET dsocr.batch_scan = off', 'SELECT count(dsocr_text(img)) FROM scan WHERE id <= 100') * 10;
my @batch = sort { $a <=> $b } map { seconds($ahead, 'SELECT count(dsocr_text(img)) FROM scan') } 1 .. 3;

note("row by row $rows s, batch @batch s");
cmp_ok($rows, '>=', 20, 'one after the other: 20 ms each');

# 50 on a machine with nothing else to do, see docs/batch-scan.md; here others may work
cmp_ok($rows / $batch[0], '>=', 5, 'many at once: faster by far');
my $output = seconds($ahead, 'SELECT sum(length(body)) FROM (SELECT dsocr_text(img) AS body FROM scan WHERE dsocr_text(img) > \'\' OFFSET 0) s');
cmp_ok($rows / $output, '>=', 4, 'with a filter');
$node->stop;
done_testing();
