# What roles use: pages, tokens, and shares of the engine's time that add up.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('usage', cache => "'1MB'", conf => 'dsocr.max_requests = 16');
sql($node, 'CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats');

sub reads
{
	my ($who, $n, $commands) = @_;
	return begin_sql($node, 'SELECT count(dsocr_text(' . image($commands) . " || '$who'::bytea || i::text::bytea)) FROM generate_series(1, $n) i",
		user => $who);
}

sql($node, 'SELECT t.reset()');
my @both = (reads('alice', 8, 'sleep=1;text=abcdefgh'), reads('bob', 4, 'sleep=1;text=abcd'));
end_sql($_) for @both;
end_sql(reads('bob', 4, 'sleep=1;text=abcd'));
is(sql($node, "SELECT string_agg(role || ' ' || pages || ' ' || cache_hits || ' ' || image_tokens, ',' ORDER BY role) FROM dsocr.usage"),
	'alice 8 0 2184,bob 4 4 1092', 'pages, hits and tokens');
is(sql($node, 'SELECT sum(text_tokens) FROM dsocr.usage'), sql($node, 'SELECT sum(text_tokens) FROM dsocr.stats'), 'tokens add up');
my $seconds = sql($node, 'SELECT sum(device_seconds) FROM dsocr.usage');
cmp_ok($seconds, '>', 0.9, 'time of the engine');
cmp_ok($seconds, '<', 9, 'not counted for each request');

# Each sees its own.
is(sql($node, 'SELECT role, pages FROM dsocr.usage', user => 'bob'), 'bob|4', 'bob sees bob');
is(sql($node, 'SELECT count(*) FROM dsocr.usage', user => 'watcher'), 2, 'pg_read_all_stats sees all');
sql($node, 'SELECT t.reset()');
is(sql($node, 'SELECT count(*) FROM dsocr.usage'), 0, 'reset');

done_testing;
