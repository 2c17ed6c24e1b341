# The server restarts its processes while the queue is full: waiting clients get
# an error, the workers resume alone, and jobs that were committed have one
# result each.  And an engine that floods its log.
#
# DSOCR_RESTARTS=200 for the whole of it.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

stub_environment('slots=2');
my $node = new_server('restart', conf => "dsocr.max_requests = 4\nmax_connections = 40");

srand(15);
my $rounds = $ENV{DSOCR_RESTARTS} // 5;
$node->safe_psql('postgres', q{CREATE TABLE scan (id int PRIMARY KEY, image bytea, body text);
	CREATE TABLE written (id int);
	CREATE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.written VALUES (NEW.id); RETURN NULL; END';
	CREATE TRIGGER log_write AFTER UPDATE OF body ON scan FOR EACH ROW EXECUTE FUNCTION log_write();
	SELECT dsocr_attach('scan', 'image', 'body')});
for my $round (1 .. $rounds)
{
	my $engine = engine_pid($node);
	my @readers = map { begin_sql($node, 'SET dsocr.queue_timeout = 0; ' . reading('sleep=30')) } 1 .. 8;
	$node->poll_query_until('postgres', 'SELECT slots_used = 4 AND waiting = 4 FROM t.status()');
	$node->safe_psql('postgres', "INSERT INTO scan SELECT 3 * $round + i, convert_to('STUB:sleep=0.02;text=row ' || i, 'UTF8') FROM generate_series(0, 2) i");
	usleep(int(rand(100_000)));
	my $victim = $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE query LIKE '%sleep=30%' AND pid <> pg_backend_pid()
		 ORDER BY random() LIMIT 1");
	kill 'KILL', $victim;
	for my $i (1 .. 8)
	{
		my ($rc) = end_sql($readers[ $i - 1 ]);
		isnt($rc, 0, "round $round: client $i gets an error");
	}
	ok(wait_until(sub { !alive($engine) }), "round $round: the old engine is gone");
	ok(wait_until(sub { (try_sql($node, "SELECT state FROM t.workers()"))[0] eq 'ready' }, 60), "round $round: the worker is back");
	is($node->safe_psql('postgres', reading("text=round $round")), "round $round", "round $round: reads");
	ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM dsocr.job_queue'), "round $round: its jobs are done");
	is_at_baseline($node, "round $round: nothing is left");
}
is($node->safe_psql('postgres', q{SELECT count(*), count(body), (SELECT count(*) FROM written), (SELECT count(DISTINCT id) FROM written) FROM scan}),
	join('|', (3 * $rounds) x 4), 'each row was written once');
$node->stop;

# An engine that writes 100,000 lines to its standard error, some without end.
my $noisy = $node->basedir . '/noisy-engine';
append_to_file($noisy, <<"END");
#!/bin/sh
{ yes 'noise of the engine' | head -n 100000; head -c 100000 /dev/zero | tr '\\000' 'x'; } >&2 3>&- &
exec '$ENV{DSOCR_STUB_ENGINE}' "\$@"
END
chmod 0755, $noisy;
$node->append_conf('postgresql.conf', "dsocr.engine_path = '$noisy'");
my $size = -s $node->logfile;
$node->start;
wait_for_ready($node);
is($node->safe_psql('postgres', reading('sleep=1;text=heard')), 'heard', 'a noisy engine reads');
my $said = substr(slurp_file($node->logfile), $size);
my $lines = () = $said =~ /dsocr engine on cpu: /g;
cmp_ok($lines, '>', 0, 'its words are in the log');
cmp_ok($lines, '<=', 31, "but not all: $lines lines");
$node->stop;
done_testing();
