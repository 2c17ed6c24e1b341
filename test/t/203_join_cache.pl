# Answers that are kept and workers on other hosts: what is known is not handed
# out to be read, and what workers say is not kept.
use strict;
use warnings;

use Dsocr;
use DsocrJoin;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my ($node, $conninfo) = join_server('join_cache', cache => "'1MB'");
my $dir = $node->basedir;

sub entries { return sql($node, 'SELECT cache_entries FROM t.status()'); }
sub join_once
{
	my (%option) = @_;
	local $ENV{DSOCR_STUB} = $option{stub} // $ENV{DSOCR_STUB};
	my $worker = start_worker($node, $conninfo, '--once', @{ $option{options} // [] });

	is(end_worker($worker), 0, 'ended') or diag worker_log($worker);
	return worker_log($worker);
}

# The stand-in makes the file when it reads the image.
my $known = image("mark=$dir/read;text=known");
is(sql($node, "SET dsocr.auto_rotate = on; SELECT dsocr_markdown($known)"), 'known', 'read by the server as jobs are');
ok(unlink("$dir/read"), 'which left a mark');
sql($node, 'SELECT t.reset()');
my @jobs = map { sql($node, "SELECT dsocr_enqueue($known)") } 1 .. 2;
sql($node, "SELECT count(dsocr_enqueue($known)) FROM generate_series(1, 300)");
my $new = sql($node, 'SELECT dsocr_enqueue(' . image('text=new') . ')');
my $log = join_once();
like($log, qr/303 jobs done/, 'the worker goes on where many jobs need no reading');
ok(!-e "$dir/read", 'what is known is not read again');
is(sql($node, "SELECT (dsocr_wait($jobs[0], '1 s')).markdown"), 'known', 'but written');
is(sql($node, "SELECT (dsocr_wait($new, '1 s')).markdown"), 'new', 'what is not known is read');
is(sql($node, 'SELECT sum(cache_hits) FROM t.stats()'), '302', 'and counted as what it is');
is(sql($node, q{SELECT pages || ' ' || cache_hits FROM dsocr.usage WHERE role = 'postgres'}), '1 302', 'for its role, too');
is(sql($node, "SELECT string_agg(DISTINCT state || attempts, ' ') FROM dsocr.jobs"), 'done1', 'all have ended');

# equal to what the server's own runner makes of it
sql($node, 'ALTER SYSTEM SET dsocr.run_jobs = on');
sql($node, 'SELECT pg_reload_conf()');
my $here = sql($node, "SELECT dsocr_enqueue($known)");
ok(wait_until(sub { job_state($node, $here) eq 'done 1' }), 'by the runner');
ok(!-e "$dir/read", 'which knows it, too');
sql($node, 'ALTER SYSTEM SET dsocr.run_jobs = remote');
sql($node, 'SELECT pg_reload_conf()');
ok(wait_until(sub { sql($node, 'SHOW dsocr.run_jobs') eq 'remote' }), 'the server reads no documents any more');
is(sql($node, "SELECT result FROM dsocr.job_done WHERE id = $jobs[0]"), sql($node, "SELECT result FROM dsocr.job_done WHERE id = $here"), 'the same result');

# what workers say is not kept, for they could say anything
my $lied = q{convert_to('an image', 'UTF8')};
my $before = entries();
my $job = sql($node, "SELECT dsocr_enqueue($lied)");
join_once(stub => 'latency=0;text=a lie');
is(sql($node, "SELECT (dsocr_wait($job, '1 s')).markdown"), 'a lie', 'its job has it');
is(entries(), $before, 'the cache does not');
is(sql($node, "SET dsocr.auto_rotate = on; SELECT dsocr_markdown($lied)"), 'stub: 8 bytes', 'and nobody else gets it');

# a worker with another model gives what its own model gives
mkdir "$dir/model-b" or die "mkdir: $!";
$job = sql($node, "SELECT dsocr_enqueue($known)");
join_once(options => [ '--model', "$dir/model-b" ]);
ok(-e "$dir/read", 'read by another model');
is(job_state($node, $job), 'done 1', 'and written');
unlink "$dir/read";

# who does not use the cache
sql($node, 'ALTER ROLE dsocr_remote SET dsocr.cache = off');
$job = sql($node, "SELECT dsocr_enqueue($known)");
join_once();
ok(-e "$dir/read", 'read where the cache is off');
unlink "$dir/read";
sql($node, 'ALTER ROLE dsocr_remote RESET dsocr.cache');

# rows of tables: written as their owner; one that is locked, one that cannot be written
sql($node, <<"END");
CREATE TABLE scans (id int PRIMARY KEY, image bytea, body text);
CREATE FUNCTION check_row() RETURNS trigger LANGUAGE plpgsql AS
	\$\$BEGIN IF NEW.id = 2 THEN RAISE 'not this row'; END IF; RETURN NEW; END\$\$;
CREATE TRIGGER check_row BEFORE UPDATE OF body ON scans FOR EACH ROW EXECUTE FUNCTION check_row();
SELECT dsocr_attach('scans', 'image', text_column => 'body');
INSERT INTO scans (id, image) SELECT g, $known FROM generate_series(1, 3) AS g;
END
my $session = begin_sql($node, 'BEGIN; SELECT id FROM scans WHERE id = 3 FOR UPDATE; SELECT pg_sleep(3); COMMIT');
ok(wait_until(sub { sql($node, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid() AND wait_event = 'PgSleep'}) eq '1' }), 'a row is locked');
my $worker = start_worker($node, $conninfo);
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM scans WHERE body IS NOT NULL') eq '2' }, 60), 'rows are written');
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.failures') eq '1' }, 60), 'one is not');
is(sql($node, 'SELECT attempts || reason FROM dsocr.failures'), '2not this row', 'after all attempts, and why');
end_sql($session);
is(sql($node, 'SELECT string_agg(id || body, $$,$$ ORDER BY id) FROM scans'), '1known,3known', 'the others are written');
is(end_worker($worker, 'TERM'), 0, 'ended in order') or diag worker_log($worker);

# the table of answers, after a restart
$node->append_conf('postgresql.conf', "dsocr.cache_table = on\n");
$node->restart;
wait_for_ready($node);
unlink "$dir/read";
is(sql($node, "SET dsocr.auto_rotate = on; SELECT dsocr_markdown($known)"), 'known', 'read by the server as jobs are');
is(sql($node, 'SELECT count(*) FROM dsocr.cache'), '1', 'and in the table');
$node->restart;
wait_for_ready($node);
unlink "$dir/read";
$job = sql($node, "SELECT dsocr_enqueue($known)");
join_once();
is(job_state($node, $job), 'done 1', 'written');
ok(!-e "$dir/read", 'not read again');
is(sql($node, 'SELECT count(*) FROM dsocr.cache'), '1', 'one answer in the table');
unlike(log_of($node), qr/PANIC|TRAP|signal 11/, 'nothing in the log');
$node->stop;
done_testing();
