# Roles share the engine by weight, in its time and not in pages.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('slots=2;latency=30');
my $node = new_server('fair', conf => "dsocr.max_requests = 64\ndsocr.prefetch = 12");
sql($node, 'CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE carol LOGIN; CREATE ROLE dora LOGIN; ALTER ROLE carol SET dsocr.role_weight = 3');
for my $value (0, 1001)
{
	my (undef, $error) = try_sql($node, "SET dsocr.role_weight = $value");
	like($error, qr/outside the valid range/, "not $value");
}
my (undef, $error) = try_sql($node, 'SET dsocr.role_weight = 100', user => 'bob');
like($error, qr/permission denied/, 'not for everybody to set');
is(sql($node, 'SHOW dsocr.role_weight', user => 'carol'), 3, 'set for a role');

# A session that reads until it is told to end, and reads nothing that another reads too.
my $many = 100000;
my $sessions = 0;
sub reads
{
	my ($who, %option) = @_;
	my $commands = ($option{commands} // '') . "text=$who " . ++$sessions . ' ';
	return begin_sql($node, ($option{set} // '') . 'SELECT count(dsocr_text(' . image($commands) . " || i::text::bytea)) FROM generate_series(1, $many) i",
		user => $who, go_on => 1);
}

# Shares of two roles' usage when so many pages were read, while both have more to read.  Before,
# whoever began first has to be caught up with: on a busy machine its first page may take a second.
sub shares
{
	my ($column, $pages, @sessions) = @_;
	sql($node, 'SELECT t.reset()');
	$node->poll_query_until('postgres', 'SELECT count(*) = 2 AND min(pages) >= 40 FROM dsocr.usage');
	sql($node, 'SELECT t.reset()');
	$node->poll_query_until('postgres', "SELECT sum(pages) >= $pages FROM dsocr.usage");
	my $usage = sql($node, "SELECT role, $column / CAST(sum($column) OVER () AS float8), pages, device_seconds FROM dsocr.usage");
	note($usage);
	my %share = map { (split /\|/)[0, 1] } split /\n/, $usage;
	sql($node, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%generate_series%' AND pid <> pg_backend_pid()");
	end_sql($_) for @sessions;
	is_at_baseline($node, 'nothing is left in use');
	return \%share;
}
sub between
{
	my ($value, $low, $high, $name) = @_;
	return ok($value > $low && $value < $high, sprintf '%s: %.2f', $name, $value);
}

my $share = shares('pages', 200, (map { reads('alice') } 1 .. 3), reads('bob'));
between($share->{bob}, 0.4, 0.6, 'one session against three of another role');
$share = shares('pages', 200, (map { reads('alice') } 1 .. 3), reads('carol'));
between($share->{carol}, 0.62, 0.85, 'three times the weight');
$share = shares('device_seconds', 200, reads('alice'), reads('dora', commands => 'sleep=0.12;'));
between($share->{dora}, 0.38, 0.62, 'pages that take four times as long have the same time');

# In line for a slot, where each session asks for one page after the other.
$node->append_conf('postgresql.conf', "dsocr.max_requests = 4\ndsocr.batch_scan = off");
$node->restart;
wait_for_ready($node);
$share = shares('pages', 200, (map { reads('alice') } 1 .. 12), (map { reads('bob') } 1 .. 5));
between($share->{bob}, 0.4, 0.6, 'five sessions in line against twelve');
$share = shares('pages', 200, (map { reads('alice') } 1 .. 8), (map { reads('carol') } 1 .. 8));
between($share->{carol}, 0.62, 0.85, 'three times the weight in line');

# Who comes after a pause has saved up nothing, and is not made to wait for it.
my @alone = map { reads('alice') } 1 .. 6;
$node->poll_query_until('postgres', "SELECT sum(pages) >= 200 FROM dsocr.usage WHERE role = 'alice'");
$share = shares('pages', 150, @alone, map { reads('bob') } 1 .. 6);
between($share->{bob}, 0.4, 0.6, 'who comes later');

done_testing;
