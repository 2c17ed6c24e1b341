# Partitions on other servers by postgres_fdw: each server reads what it has,
# and what a query over all of them calls where.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $pages = $ENV{DSOCR_FDW_PAGES} // 80;

stub_environment('latency=100;slots=4');
my $head = new_server('head');
my @far = map { new_server("far$_", conf => "listen_addresses = '127.0.0.1'") } 1, 2;

sub read_by { my ($node) = @_; return sql($node, 'SELECT sum(completed) FROM t.stats()'); }
sub reset_all { sql($_, 'SELECT t.reset()') for $head, @far; return; }

# the far tables are attached, and have a view that reads when it is asked
for my $node (@far)
{
	sql($node, <<'END');
CREATE TABLE scan (id int PRIMARY KEY, image bytea, body text);
SELECT dsocr_attach('scan', 'image', 'body');
CREATE VIEW reading AS SELECT id, dsocr_generate(image, 'x') AS text FROM scan;
END
}
sql($head, <<'END');
CREATE EXTENSION postgres_fdw;
CREATE TABLE scan (id int, image bytea, body text) PARTITION BY RANGE (id);
CREATE TABLE reading (id int, text text) PARTITION BY RANGE (id);
END
for my $i (0, 1)
{
	my ($port, $from, $to) = ($far[$i]->port, $i * 1000, ($i + 1) * 1000);
	sql($head, <<"END");
CREATE SERVER far$i FOREIGN DATA WRAPPER postgres_fdw
	OPTIONS (host '127.0.0.1', port '$port', dbname 'postgres', extensions 'dsocr', fetch_size '50');
CREATE USER MAPPING FOR CURRENT_USER SERVER far$i;
CREATE FOREIGN TABLE scan$i PARTITION OF scan FOR VALUES FROM ($from) TO ($to) SERVER far$i OPTIONS (table_name 'scan');
CREATE FOREIGN TABLE reading$i PARTITION OF reading FOR VALUES FROM ($from) TO ($to) SERVER far$i OPTIONS (table_name 'reading', async_capable 'true');
END
}

# rows go to their server, whose triggers queue them there
my $half = $pages / 2;
my $start = time;
sql($head, "INSERT INTO scan SELECT g, convert_to('STUB:text=row ' || g, 'UTF8') FROM generate_series(1, $half) AS g");
sql($head, "INSERT INTO scan SELECT g, convert_to('STUB:text=row ' || g, 'UTF8') FROM generate_series(1001, 1000 + $half) AS g");
ok(wait_until(sub { sql($head, 'SELECT count(body) FROM scan') eq $pages }, 120), 'all are read');
note(sprintf '%d rows read by the jobs of two servers in %.1f s', $pages, time - $start);
is(sql($head, q{SELECT count(*) FROM scan WHERE body = 'row ' || id}), $pages, 'each has its own text');
is(read_by($head), '0', 'nothing by this server');
is(read_by($_), $half, 'half of them by the other') for @far;
sql($head, q{UPDATE scan SET image = convert_to('STUB:text=new', 'UTF8') WHERE id IN (1, 1001)});
ok(wait_until(sub { sql($head, q{SELECT count(*) FROM scan WHERE body = 'new'}) eq '2' }, 30), 'changed images are read again');
sql($head, q{BEGIN; UPDATE scan SET image = convert_to('STUB:text=never', 'UTF8') WHERE id = 2; ROLLBACK});

# a call over the parent: images travel and this server reads them
reset_all();
my $plan = sql($head, q{EXPLAIN (VERBOSE) SELECT id, dsocr_generate(image, 'x') FROM scan});
like($plan, qr/DsocrBatch/, 'it reads ahead over foreign partitions');
like($plan, qr/Remote SQL: SELECT id, image FROM public\.scan/, 'and fetches the images');
unlike($plan, qr/Remote SQL: .*dsocr_generate/, 'the call stays here');
$start = time;
is(sql($head, q{SELECT count(DISTINCT dsocr_generate(image, 'x')) FROM scan}), $pages - 1, 'the texts');
note(sprintf '%d pages fetched and read by one server in %.1f s', $pages, time - $start);
is(read_by($head), $pages, 'read here');
is(read_by($_), '0', 'not there') for @far;

# the view over there: the servers read, both at the same time
reset_all();
$plan = sql($head, q{EXPLAIN (VERBOSE) SELECT id, text FROM reading});
like($plan, qr/Async Foreign Scan.*Async Foreign Scan/s, 'both at the same time');
$start = time;
is(sql($head, q{SELECT count(DISTINCT text) FROM (SELECT text FROM reading OFFSET 0) x}), $pages - 1, 'the same texts');
note(sprintf '%d pages read by two servers through views in %.1f s', $pages, time - $start);
is(read_by($head), '0', 'nothing by this server');
is(read_by($_), $half, 'half of them by the other') for @far;
reset_all();
is(sql($head, 'SELECT text FROM reading WHERE id = 1003'), 'row 1003', 'one row');
is(join(' ', map { read_by($_) } @far), '0 1', 'is one page on one server');

# a server that is away is an error and not a hang, and comes back
$far[1]->stop('immediate');
my ($out, $err) = try_sql($head, 'SELECT count(body) FROM scan');
like($err, qr/could not connect|terminat|closed/, 'a server that is away');
$far[1]->start;
ok(wait_until(sub { ($out) = try_sql($head, 'SELECT count(body) FROM scan'); $out eq $pages }, 30), 'and back');

unlike(log_of($_), qr/PANIC|TRAP|signal 11/, 'nothing in the log') for $head, @far;
$_->stop for $head, @far;
done_testing();
