# Engines, page servers, runner, workers on other hosts, their sessions and the
# server are killed at random: no job is lost, none done twice.
#
# DSOCR_CHAOS_JOBS=10000 for the whole of it, DSOCR_CHAOS_WORKERS=0 without
# other hosts, DSOCR_CHAOS_SEED for another order.
use strict;
use warnings;

use Dsocr;
use DsocrJoin;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $jobs = $ENV{DSOCR_CHAOS_JOBS} // 600;
my $half = int($jobs / 2);
my $papers = int($jobs / 20); # of four pages each
my $n_workers = can_join() ? $ENV{DSOCR_CHAOS_WORKERS} // 2 : 0;

# slow enough for many kills
stub_environment('latency=400;slots=16');
my $node = new_server('chaos', pages => 'stub', conf => <<'END');
listen_addresses = '127.0.0.1'
dsocr.retry_delay = 50ms
dsocr.max_attempts = 1000
dsocr.worker_lease = 5s
max_connections = 50
END
grant_join($node);
sql($node, q{CREATE TABLE scan (id int PRIMARY KEY, image bytea, body text);
	CREATE TABLE written (id int);
	CREATE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.written VALUES (NEW.id); RETURN NULL; END';
	CREATE TRIGGER log_write AFTER UPDATE OF body ON scan FOR EACH ROW EXECUTE FUNCTION log_write();
	SELECT dsocr_attach('scan', 'image', 'body')});
sql($node, "INSERT INTO scan SELECT i, convert_to('STUB:text=row ' || i, 'UTF8') FROM generate_series(1, $half) i");
sql($node, "SELECT count(dsocr_enqueue(convert_to('STUB:text=job ' || i, 'UTF8'))) FROM generate_series(1, $half) i");

sql($node, <<"END");
CREATE TABLE paper (id int PRIMARY KEY, document bytea);
CREATE TABLE written_page (id int, page int);
SELECT dsocr_attach('paper', 'document', side_table => 'paper_pages');
CREATE FUNCTION log_page() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.written_page VALUES (NEW.id, NEW.page); RETURN NULL; END';
CREATE TRIGGER log_page AFTER INSERT ON paper_pages FOR EACH ROW EXECUTE FUNCTION log_page();
INSERT INTO paper SELECT i, convert_to('%PDF-1.4 STUB:pages=4;sleep=0.2;each=text=paper ' || i || ' page #', 'UTF8') FROM generate_series(1, $papers) i;
END

sub pid_of
{
	my ($type) = @_;
	my ($out) = try_sql($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = '$type' LIMIT 1");
	return $out =~ /^\d+$/ ? $out : undef;
}

my @stub = ('--pages', Dsocr::pages_program('stub'));
my @workers = map { start_worker($node, conninfo($node), @stub) } 1 .. $n_workers;
my $stopped;
my $worker_done = 0;

# What a worker has written, as it says itself; one that is killed does not.
sub count_worker
{
	my ($worker) = @_;
	$worker_done += $1 if worker_log($worker) =~ /(\d+) jobs done\n\z/;
	return;
}

# Another one takes the place of a worker.
sub replace_worker
{
	my ($signal) = @_;
	return unless @workers;
	my $i = int(rand(@workers));
	return if $stopped && $stopped == $workers[$i];
	end_worker($workers[$i], $signal);
	count_worker($workers[$i]);
	$workers[$i] = start_worker($node, conninfo($node), @stub);
	return 1;
}

# The engine or the page server of a worker.
sub kill_child
{
	my ($name) = @_;
	return unless @workers;
	my $pid = $workers[ int(rand(@workers)) ]{pid};
	my ($child) = grep { (eval { slurp_file("/proc/$_/comm") } // '') eq "$name\n" } split ' ', slurp_file("/proc/$pid/task/$pid/children");
	return $child && kill 'KILL', $child;
}

# Stop a worker for longer than its lease.
sub stop_worker
{
	return unless @workers;
	if ($stopped)
	{
		kill 'CONT', $stopped->{pid};
		undef $stopped;
		return;
	}
	$stopped = $workers[ int(rand(@workers)) ];
	return kill 'STOP', $stopped->{pid};
}

my %kill = (
	'remote worker' => sub { return replace_worker('KILL'); },
	'leaving worker' => sub { return replace_worker('TERM'); },
	'stopped worker' => \&stop_worker,
	'remote engine' => sub { return kill_child('stub_engine'); },
	'remote page server' => sub { return kill_child('stub_pages'); },
	session => sub {
		my ($out) = try_sql($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'dsocr_remote' ORDER BY random() LIMIT 1");
		return $out eq 't'; },
	'page server' => sub { my ($pid) = try_sql($node, q{SELECT engine_pid FROM t.workers() WHERE device = 'pages'}); return kill 'KILL', $pid if $pid =~ /^[1-9]\d*$/; },
	engine => sub { my ($pid) = try_sql($node, q{SELECT max(engine_pid) FROM t.workers() WHERE device <> 'pages'}); return kill 'KILL', $pid if $pid =~ /^[1-9]\d*$/; },
	runner => sub { my $pid = pid_of('dsocr job runner') or return; return kill 'TERM', $pid; },
	launcher => sub { my $pid = pid_of('dsocr job launcher') or return; return kill 'TERM', $pid; },
	# the postmaster ends all others and recovers
	backend => sub { my $pid = pid_of('dsocr job runner') or return; return kill 'KILL', $pid; },
	server => sub { $node->stop('immediate'); $node->start; return 1; });

my %kills = map { $_ => 0 } keys %kill;
srand($ENV{DSOCR_CHAOS_SEED} // 1);
my $start = time;
my $left = $jobs;
while ($left > 0 && time - $start < 30 + $jobs / 4)
{
	usleep(500_000 + rand(1_500_000));
	my @names = sort keys %kill;
	my $name = $names[ int(rand(@names)) ];
	$kills{$name}++ if $kill{$name}->();
	usleep(200_000);
	my ($out) = try_sql($node, 'SELECT count(*) FROM dsocr.job_queue');
	$left = $out if $out =~ /^\d+$/;
}
kill 'CONT', $stopped->{pid} if $stopped;
note(join ', ', map { "$kills{$_} times $_" } sort keys %kills);
ok(wait_until(sub { my ($out) = try_sql($node, 'SELECT count(*) FROM dsocr.job_queue'); $out eq '0' }, 180), 'all jobs have ended');
for my $worker (@workers)
{
	is(end_worker($worker, 'TERM'), 0, 'a worker ends in order') or diag worker_log($worker);
	count_worker($worker);
}
note(sprintf '%d jobs in %.0f s, at least %d by remote workers', $jobs + $papers, time - $start, $worker_done);

is(sql($node, 'SELECT count(*) FROM dsocr.failures'), '0', 'none failed');
is(sql($node, "SELECT count(*) || ' ' || count(DISTINCT result ->> 'raw') FROM dsocr.job_done WHERE NOT cancelled AND result ->> 'raw' ~ '^job \\d+\$'"),
	"$half $half", 'each queued document has one result');
is(sql($node, "SELECT count(*) FROM scan WHERE body = 'row ' || id"), $half, 'each row has its text');
is(sql($node, "SELECT count(*) || ' ' || count(DISTINCT id) FROM written"), "$half $half", 'and was written once');
is(sql($node, q{SELECT sum(jobs) FROM dsocr.job_tally WHERE source = 'scan'::regclass}), $half, 'and counted once');
is(sql($node, q{SELECT count(*) FROM paper_pages WHERE text = 'paper ' || id || ' page ' || page AND status = 'ok'}), 4 * $papers, 'each page has its text');
is(sql($node, q{SELECT count(*) || ' ' || count(DISTINCT (id, page)) FROM written_page}), 4 * $papers . ' ' . 4 * $papers, 'and was written once');
is(sql($node, q{SELECT sum(jobs) || ' ' || sum(pages) FROM dsocr.job_tally WHERE source = 'paper'::regclass}), $papers . ' ' . 4 * $papers, 'and counted once');
ok(wait_until(sub { claims($node) eq '0' }), 'no claim is left');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
