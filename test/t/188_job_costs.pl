# What a job costs the database and the network, as docs/scaling.md counts it.
#
# DSOCR_COST_JOBS=5000 DSOCR_COST_BYTES=100000 for the figures of that page, and
# DSOCR_COST_BYTES=1000 DSOCR_COST_WORKERS='1 4 16' for what more workers cost.
use strict;
use warnings;

use Dsocr;
use DsocrJoin;
use DsocrSql;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $jobs = $ENV{DSOCR_COST_JOBS} // 400;
my $bytes = $ENV{DSOCR_COST_BYTES} // 20000;

stub_environment('latency=0');
my $node = new_server('costs', conf => <<'END');
listen_addresses = '127.0.0.1'
dsocr.run_jobs = off
fsync = on
track_functions = all
max_wal_size = 20GB
checkpoint_timeout = 1d
autovacuum = off
END
grant_join($node) if can_join();
my $conninfo = conninfo($node);
my $ticks = POSIX::sysconf(POSIX::_SC_CLK_TCK());

sub lsn { return sql($node, 'SELECT pg_current_wal_insert_lsn()'); }
sub wal_since { my ($lsn) = @_; return sql($node, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '$lsn')"); }
sub size { return sql($node, "SELECT sum(pg_total_relation_size(r)) FROM unnest('{$_[0]}'::regclass[]) AS r"); }
sub per_job { my ($name, $value, $unit, $n) = @_; note(sprintf '%-58s %10.1f %s', $name, $value / ($n // $jobs), $unit); return $value / ($n // $jobs); }

# Processor time of processes of the server so far, in ms.
sub used
{
	my ($where) = @_;
	my $sum = 0;
	for my $pid (split /\n/, sql($node, "SELECT pid FROM pg_stat_activity WHERE $where"))
	{
		my @stat = split / /, (slurp_file("/proc/$pid/stat") =~ s/.*\) //sr);
		$sum += ($stat[11] + $stat[12]) * 1000 / $ticks;
	}
	return $sum;
}
sub empty { return wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.job_queue') eq '0' }, 600); }
sub commits { return sql($node, q{SELECT pg_stat_force_next_flush(); SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'}) =~ s/^\n//r; }

sql($node, <<'END');
CREATE TABLE scan (id int PRIMARY KEY, image bytea, body text);
ALTER TABLE scan ALTER image SET STORAGE EXTERNAL, ALTER body SET STORAGE EXTERNAL;
SELECT dsocr_attach('scan', 'image', 'body', backfill => false);
END
sub fill
{
	my ($from, $to) = @_;
	sql($node, "INSERT INTO scan SELECT g, convert_to('STUB:big=2000;x=' || g || ';', 'UTF8') || decode(repeat('00', $bytes), 'hex') FROM generate_series($from, $to) AS g");
	return;
}

# rows of an attached table: what the trigger adds to the INSERT
sql($node, 'CHECKPOINT');
fill(1, 50);
sql($node, 'DELETE FROM scan; DELETE FROM dsocr.job_queue; VACUUM scan, dsocr.job_queue; ALTER TABLE scan DISABLE TRIGGER USER');
my $lsn = lsn();
fill(1, $jobs);
my $plain = wal_since($lsn);
sql($node, 'DELETE FROM scan; VACUUM scan; ALTER TABLE scan ENABLE TRIGGER USER');
$lsn = lsn();
fill(1, $jobs);
my $queued = per_job('WAL to queue a row, beyond that of the row itself', wal_since($lsn) - $plain, 'bytes');
cmp_ok($queued, '<', 1500, 'WAL to queue a row');
my $queue = per_job('queue and its indexes, full', size('dsocr.job_queue'), 'bytes');
cmp_ok($queue, '<', 1500, 'a row of the queue');

# read by the runner of the server
my $before = commits();
$lsn = lsn();
my $start = time;
sql($node, q{ALTER SYSTEM SET dsocr.run_jobs = on});
$node->reload;
ok(empty(), 'read by the runner');
my $seconds = time - $start;
my $runner = q{backend_type = 'dsocr job runner'};
per_job('processor time of the runner', used($runner), 'ms');
per_job('processor time of the worker of the device', used(q{backend_type LIKE 'dsocr worker%'}), 'ms');
cmp_ok(per_job('WAL to write a text of 2 kB and end its job', wal_since($lsn), 'bytes'), '<', 8000, 'WAL to end a job');
cmp_ok(per_job('transactions', commits() - $before, ''), '<', 1, 'jobs share transactions');
note(sprintf '%.0f jobs a second by the runner', $jobs / $seconds);
per_job('history: a count is all that an attached row leaves', size('dsocr.job_tally'), 'bytes');

plan(skip_all => 'built without libpq') unless can_join();
sql($node, q{ALTER SYSTEM SET dsocr.run_jobs = remote});
$node->reload;

# what goes over the network: through something that counts
sql($node, 'UPDATE scan SET body = NULL WHERE id <= 200');
my $proxy = start_proxy($node);
my $worker = start_worker($node, conninfo($node, port => $proxy->{port}), '--in-flight', '32', '--once');
ok(empty(), 'read through a proxy');
is(end_worker($worker), 0, 'ended');
my ($down, $up) = proxy_bytes($proxy);
end_proxy($proxy);
cmp_ok(per_job("network, from the server, beyond the document of $bytes bytes", $down - 200 * $bytes, 'bytes', 200), '<', 2000, 'network down');
cmp_ok(per_job('network, to the server, text of 2 kB included', $up, 'bytes', 200), '<', 16000, 'network up');

# read by workers on other hosts
for my $n (split / /, $ENV{DSOCR_COST_WORKERS} // '1 2 4')
{
	sql($node, 'UPDATE scan SET body = NULL; SELECT pg_stat_reset()');
	$before = commits();
	$lsn = lsn();
	$start = time;
	my @workers = map { start_worker($node, $conninfo, '--in-flight', '32') } 1 .. $n;
	ok(empty(), "read by $n workers on other hosts");
	$seconds = time - $start;
	note(sprintf '%.0f jobs a second by %d workers', $jobs / $seconds, $n);
	per_job('processor time of their sessions', used(q{usename = 'dsocr_remote'}), 'ms');
	cmp_ok(per_job('WAL to end a job', wal_since($lsn), 'bytes'), '<', 8000, 'WAL to end a job');
	per_job('transactions', commits() - $before, '');
	is(end_worker($_, 'TERM'), 0, 'ended') for @workers;
	for my $f (qw(claim fetch finish keep))
	{
		my ($calls, $ms) = split /\|/, sql($node, "SELECT sum(calls), sum(self_time) FROM pg_stat_user_functions WHERE funcname = 'dsocr_worker_$f'");
		next unless $calls;
		per_job("calls of dsocr_worker_$f", $calls, '');
		per_job("time of a call of dsocr_worker_$f", $ms, 'ms', $calls);
	}
}

# documents that are in the queue themselves, and what they leave for dsocr.keep_jobs
$lsn = lsn();
sql($node, "SELECT count(dsocr_enqueue(convert_to('STUB:big=2000;x=' || g || ';', 'UTF8') || decode(repeat('00', $bytes), 'hex'))) FROM generate_series(1, $jobs) AS g");
per_job("WAL to queue a document of $bytes bytes by dsocr_enqueue", wal_since($lsn), 'bytes');
$worker = start_worker($node, $conninfo, '--once');
ok(empty(), 'read');
end_worker($worker);
per_job('history of dsocr_enqueue, with the result', size('dsocr.job_done'), 'bytes');
my $full = size('dsocr.job_queue');
sql($node, 'VACUUM dsocr.job_queue');
per_job('queue after the documents, before VACUUM', $full, 'bytes');
per_job('queue after VACUUM', size('dsocr.job_queue'), 'bytes');
$start = time;
sql($node, 'VACUUM dsocr.job_queue');
note(sprintf 'a VACUUM of the empty queue takes %.0f ms', 1000 * (time - $start));
$node->stop;
done_testing();
