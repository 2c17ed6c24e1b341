# Reading needs no writing: read-only transactions, a standby, after promotion.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;

my $primary = new_server('primary', init => { allows_streaming => 1 });
sql($primary, q{CREATE TABLE page AS SELECT i, convert_to('STUB:text=page ' || i, 'UTF8') AS image FROM generate_series(1, 20) i});
my $everything = q{SELECT dsocr_text(image), (dsocr_read(image)).text_tokens, (dsocr_try('')).sqlstate FROM page WHERE i = 7;
	SELECT count(*) FROM page, dsocr_blocks(image) WHERE i <= 20; SELECT slots FROM dsocr_status()};
my $answer = "page 7|2|22P03\n20\n64";

is(sql($primary, "BEGIN READ ONLY; $everything; COMMIT"), $answer, 'read-only transaction');
is(sql($primary, "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; $everything; COMMIT"), $answer, 'serializable and deferrable');
is(sql($primary, "SET default_transaction_read_only = on; $everything"), $answer, 'read-only session');

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
ok(wait_for_ready($standby), 'the standby has a worker of its own');
isnt(engine_pid($standby), engine_pid($primary), 'and an engine of its own');
is(sql($standby, $everything), $answer, 'the standby reads');
sql($primary, q{INSERT INTO page VALUES (21, convert_to('STUB:text=new', 'UTF8'))});
$primary->wait_for_catchup($standby);
is(sql($standby, 'SELECT dsocr_text(image) FROM page WHERE i = 21'), 'new', 'and what has arrived');
my ($out, $err) = try_sql($standby, 'CREATE TABLE t AS SELECT dsocr_text(image) FROM page');
like($err, qr/cannot execute CREATE TABLE AS in a read-only transaction/, 'but cannot keep it');

# the extension goes on the primary while the standby reads
my $reader = begin_sql($standby, reading('sleep=1;text=still here'));
$standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM t.requests()});
sql($primary, 'DROP EXTENSION dsocr; CREATE EXTENSION dsocr');
my ($rc, $text) = end_sql($reader);
is($text, 'still here', 'a reading ends well');
$primary->wait_for_catchup($standby);
is(sql($standby, $everything), $answer, 'and the next one');

my $engine = engine_pid($standby);
$standby->promote;
is(sql($standby, $everything), $answer, 'it reads after promotion');
is(engine_pid($standby), $engine, 'with the same engine');
is(sql($standby, q{CREATE TABLE kept AS SELECT dsocr_text(image) AS body FROM page; SELECT count(DISTINCT body) FROM kept}), '21', 'and keeps the text');
is_at_baseline($standby, 'nothing is left in the queue');
$standby->stop;
$primary->stop;
done_testing();
