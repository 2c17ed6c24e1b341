# Logical replication of attached tables and of whole databases; what a dump holds.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my $from = new_server('publisher', init => { allows_streaming => 'logical' }, cache => "'1MB'", conf => 'dsocr.runner_idle_timeout = 1s');
my $to = new_server('subscriber', conf => 'dsocr.runner_idle_timeout = 1s');
my $tables = q{CREATE TABLE scan (id int PRIMARY KEY, image bytea, body text, words tsvector);
	SELECT dsocr_attach('scan', 'image', 'body', tsvector_column => 'words', side_table => 'page', language => 'english')};
sql($_, $tables) for $from, $to;
sql($from, "INSERT INTO scan SELECT i, convert_to('STUB:text=boat ' || i, 'UTF8') FROM generate_series(1, 20) i");
my $drained = sub { my ($node) = @_; return wait_until(sub { sql($node, 'SELECT EXISTS (SELECT FROM dsocr.job_queue)') eq 'f' }, 60) };
my $same = sub {
	my $what = q{SELECT string_agg(id || ' ' || COALESCE(body, '-') || ' ' || COALESCE(words::text, '-') || ' ' || COALESCE((SELECT string_agg(text, '+') FROM page p WHERE p.id = s.id), '-'), '; ' ORDER BY id) FROM scan s};
	return sql($to, $what) eq sql($from, $what); };
ok($drained->($from), 'read on the publisher');

# the table and its pages
sql($from, 'CREATE PUBLICATION texts FOR TABLE scan, page');
my $connect = $from->connstr('postgres') =~ s/'/''/gr;
sql($to, "CREATE SUBSCRIPTION texts CONNECTION '$connect' PUBLICATION texts");
$from->wait_for_catchup('texts');
ok(wait_until($same, 30), 'copied with their texts');
is(sql($to, 'SELECT count(*) FROM dsocr.jobs'), '0', 'nothing was queued by the copy');

# what changes there comes with the text that was read there; nothing is read here
sql($to, 'SELECT t.reset()');
sql($from, q{INSERT INTO scan VALUES (21, 'STUB:text=new one'); UPDATE scan SET image = 'STUB:text=changed' WHERE id = 3; DELETE FROM scan WHERE id = 4; UPDATE scan SET id = 100 WHERE id = 5});
ok($drained->($from), 'read on the publisher');
ok(wait_until(sub { $from->wait_for_catchup('texts'); $same->() }, 30), 'changes arrive with their texts');
is(sql($to, 'SELECT body FROM scan WHERE id = 21'), 'new one', 'as they are');
is(sql($to, 'SELECT sum(completed) FROM t.stats()'), '0', 'the subscriber read nothing');
is(sql($to, 'SELECT count(*) FROM dsocr.jobs'), '0', 'nor has it anything to read');
is(sql($to, q{SELECT key ->> 'id' FROM dsocr_search('scan', 'changed')}), '3', 'but finds it');

# rows of its own are read by the subscriber
sql($to, q{INSERT INTO scan VALUES (1000, 'STUB:text=from here')});
ok(wait_until(sub { sql($to, 'SELECT body FROM scan WHERE id = 1000') eq 'from here' }, 30), 'rows of its own are read');

# and those of the publisher where the trigger is told to, and the text does not come along
sql($to, q{DROP SUBSCRIPTION texts; TRUNCATE scan, page});
ok($drained->($to), 'nothing is queued');
sql($from, 'ALTER PUBLICATION texts SET TABLE scan (id, image)');
sql($to, 'ALTER TABLE scan ENABLE ALWAYS TRIGGER dsocr_image; ALTER TABLE scan ENABLE ALWAYS TRIGGER dsocr_s_image');
sql($to, "CREATE SUBSCRIPTION images CONNECTION '$connect' PUBLICATION texts");
ok(wait_until(sub { sql($to, 'SELECT count(*) FROM scan WHERE body IS NOT NULL') eq '20' }, 60), 'ENABLE ALWAYS: copied images are read here');
sql($from, q{INSERT INTO scan VALUES (22, 'STUB:text=twice')});
ok(wait_until(sub { sql($to, q{SELECT count(*) FROM scan JOIN page USING (id) WHERE body = 'twice'}) eq '1' }, 30), 'and what comes later');
sql($to, 'DROP SUBSCRIPTION images');

# a publication of everything does not stop jobs
sql($from, 'CREATE PUBLICATION everything FOR ALL TABLES');
my $job = sql($from, q{SELECT dsocr_enqueue('STUB:text=published')});
sql($from, q{INSERT INTO scan VALUES (23, 'STUB:text=row')});
my ($bad) = map { sql($from, $_) } q{SELECT dsocr_enqueue('STUB:error=1:bad')};
ok($drained->($from), 'jobs run');
is(sql($from, "SELECT (dsocr_wait($job, '10 s')).raw"), 'published', 'and end');
is(sql($from, 'SELECT dsocr_retry()'), '1', 'failed ones are queued again');
ok($drained->($from), 'and fail again');
for (1 .. 12)
{
	sql($from, "UPDATE scan SET image = convert_to('STUB:text=again $_', 'UTF8') WHERE id = 23");
	$drained->($from);
}
is(sql($from, 'SELECT queued FROM dsocr.progress'), '0', 'rows that change often, too');
is(sql($from, q{SELECT dsocr_detach('scan', 'image')}), 't', 'and go with their table');
sql($from, q{ALTER SYSTEM SET dsocr.cache_table = on});
sql($from, q{SELECT pg_reload_conf()});
ok(wait_until(sub { sql($from, 'SHOW dsocr.cache_table') eq 'on' }), 'answers are kept in a table');
is(sql($from, q{SELECT dsocr_text('STUB:text=a kept answer')}), 'a kept answer', 'one');
is(sql($from, 'SELECT count(*) > 0 FROM dsocr.cache'), 't', 'is kept');
cmp_ok(sql($from, q{SELECT dsocr_cache_prune('-1 day')}), '>', 0, 'and goes');
is(sql($from, q{SELECT dsocr_text('STUB:text=another kept answer')}), 'another kept answer', 'another one');
my $key = sql($from, q{SELECT encode(key, 'hex') FROM dsocr.cache LIMIT 1}) || 'none';

# no dump holds answers that are kept, nor documents but those of jobs
my $dump = $from->basedir . '/dump.sql';
$from->command_ok([ 'pg_dump', '--no-sync', '-h', $from->host, '-p', $from->port, '-f', $dump, 'postgres' ], 'dumped');
unlike(slurp_file($dump), qr/another kept answer|\Q$key\E|COPY dsocr\.cache/, 'without them');
like(slurp_file($dump), qr/COPY dsocr\.job_failed/, 'but with jobs');

unlike(log_of($from), qr/replica identity|ERROR/, 'nothing was refused');
unlike(log_of($to), qr/PANIC|TRAP|signal 11/, 'nothing died');
$_->stop for $from, $to;
done_testing();
