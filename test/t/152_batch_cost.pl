# The planner knows what reading costs.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;

my $node = new_server('batch_cost');
sql($node, q{
CREATE TABLE scan (id int, small bytea, large bytea, stored bytea);
ALTER TABLE scan ALTER stored SET STORAGE external, ALTER large SET STORAGE plain;
INSERT INTO scan SELECT i, 'x', decode(repeat('ab', 1500), 'hex'), decode(repeat('ab', 300000), 'hex') FROM generate_series(1, 50) i;
CREATE TABLE many AS SELECT i AS id, 'x'::bytea AS img FROM generate_series(1, 10000) i;
VACUUM ANALYZE});

# Cost of a row of a query.
sub cost
{
	my ($call, $settings) = @_;
	my ($cost) = sql($node, ($settings // '') . "; EXPLAIN SELECT $call FROM scan") =~ /cost=\S+?\.\.(\S+)/;

	return $cost / 50;
}
my $base = cost('dsocr_text(small)');

cmp_ok($base, '>', 200, 'a page costs what COST says');
cmp_ok($base, '<', 300, 'and no more');
my @modes = map { cost("dsocr_text(small, '$_')") } qw(tiny small base large gundam gundam_m);
is_deeply(\@modes, [ sort { $a <=> $b } @modes ], 'modes in the order of their tokens');
is($modes[2], $base, 'auto costs as much as base');
is(cost('dsocr_text(small)', "SET dsocr.mode = 'gundam'"), $modes[4], 'the setting counts');
is(cost("dsocr_generate(small, 'x', 'gundam')"), $modes[4], 'behind a prompt, too');
cmp_ok(cost('dsocr_text(small, max_tokens => 10)'), '<', $base, 'short texts cost less');
is(cost('dsocr_text(small, dpi => 10)'), $base, 'dpi is no max_tokens');
cmp_ok(cost('dsocr_text(stored)'), '>', $base + 20, 'documents that are stored out of line cost more');
cmp_ok(cost('dsocr_text(large)'), '>', $base, 'wide ones, too');

# cheap conditions come first, and cheap readings before expensive ones
like(sql($node, "EXPLAIN (COSTS off) SELECT id FROM many WHERE dsocr_text(img, 'gundam') > '' AND dsocr_text(img, 'tiny') > '' AND id % 7 = 1"),
	qr/'gundam'.*'tiny'.*Filter: \(\(id % 7\) = 1\)/s, 'from cheap to expensive, from below');
like(sql($node, "SET dsocr.batch_scan = off; EXPLAIN (COSTS off) SELECT id FROM many WHERE dsocr_text(img, 'gundam') > '' AND dsocr_text(img, 'tiny') > '' AND id % 7 = 1"),
	qr/id % 7.*'tiny'.*'gundam'/s, 'the same without batch scan');
$node->stop;
done_testing();
