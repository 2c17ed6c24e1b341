# Jobs of several roles in one database: roles take turns by weight, and a limit holds up nobody else.
use strict;
use warnings;

use Dsocr;
use DsocrJoin;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

stub_environment('slots=4;latency=5');
my $node = new_server('turns', conf => <<'END');
listen_addresses = '127.0.0.1'
shared_preload_libraries = 'dsocr, auto_explain'
auto_explain.log_min_duration = -1
auto_explain.log_analyze = on
auto_explain.log_timing = off
auto_explain.log_format = json
dsocr.max_requests = 32
dsocr.keep_jobs = '1d'
dsocr.runner_idle_timeout = 600s
max_worker_processes = 16
END
sql($node, 'CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE carol LOGIN; CREATE ROLE dora LOGIN; ALTER ROLE carol SET dsocr.role_weight = 3');

my $images = 0;
sub queue
{
	my ($who, $n, %option) = @_;
	my $commands = ($option{commands} // '') . "text=$who " . ++$images . ' ';
	my $priority = $option{priority} // 5;
	return sql($node, 'SELECT max(dsocr_enqueue(' . image($commands) . " || i::text::bytea, priority => $priority)) FROM generate_series(1, $n) i", user => $who);
}
sub done { my ($who) = @_; return sql($node, "SELECT count(*) FROM dsocr.job_done WHERE owner = '$who'::regrole"); }
sub set { sql($node, join '; ', map { "ALTER SYSTEM SET $_" } @_); $node->reload; return; }
sub hold { set('dsocr.run_jobs = off'); ok($node->poll_query_until('postgres', $_[0] // q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'dsocr job runner'}), 'no runner'); return; }
sub clear { sql($node, 'TRUNCATE dsocr.job_done; DELETE FROM dsocr.job_queue'); return; }
sub go_on { set('dsocr.run_jobs = on'); return; }

# How many of its jobs each role has done when together they have done n, by the order in which they ended.
sub first_done
{
	my ($n) = @_;
	ok($node->poll_query_until('postgres', "SELECT count(*) >= $n FROM dsocr.job_done"), "$n are done");
	my %n = map { split /\|/ } split /\n/, sql($node, "SELECT owner, count(*) FROM (SELECT owner FROM dsocr.job_done ORDER BY ended, id LIMIT $n) s GROUP BY 1");
	note(join ' ', %n);
	return \%n;
}
sub between
{
	my ($value, $low, $high, $name) = @_;
	return ok($value > $low && $value < $high, sprintf '%s: %.2f', $name, $value);
}

# Thousands of one role lie before the other's; both have more all the time.
hold();
queue('alice', 3000);
queue('bob', 1500);
go_on();
my $n = first_done(800);
between($n->{bob} / 800, 0.4, 0.6, 'half is of the role that came later');
hold();
clear();
queue('alice', 3000);
queue('carol', 1500);
go_on();
$n = first_done(800);
between($n->{carol} / 800, 0.64, 0.86, 'three times the weight');

# One job of a role behind thousands, and some of a higher priority, by the order in which they end.
hold();
clear();
queue('alice', 1000);
queue('carol', 200);
my $job = queue('dora', 1);
queue('alice', 40, priority => 7);
go_on();
first_done(1241);
sub last_of { my ($where) = @_; return sql($node, "SELECT max(n) FROM (SELECT *, row_number() OVER (ORDER BY ended, id) AS n FROM dsocr.job_done) s WHERE $where"); }
cmp_ok(last_of('priority = 7'), '<=', 100, 'a higher priority goes first');
cmp_ok(last_of("id = $job"), '<=', 200, 'a single job of a role goes before what was queued earlier');

# A role at its limit: its jobs do not end, and hold up nobody.
clear();
my $stop = $node->basedir . '/stop';
sql($node, 'ALTER ROLE bob SET dsocr.max_requests_per_role = 2');
queue('bob', 200, commands => "until=$stop;");
queue('alice', 400);
go_on();
ok($node->poll_query_until('postgres', q{SELECT count(*) = 400 FROM dsocr.job_done WHERE owner = 'alice'::regrole}), 'jobs behind those of a role at its limit are done');
is(done('bob'), 0, 'while those wait');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM dsocr.requests WHERE role = 'bob'}), 'with as many requests as it may have');
ok(wait_until(sub { claims($node) eq '2' }), 'and no more claims');
# the same when a session uses up the limit
append_to_file($stop, '');
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM dsocr.job_queue)'), 'they end');
is(sql($node, 'SELECT count(*) FROM dsocr.failures'), 0, 'none has failed');
unlink $stop;
my @sessions = map { begin_sql($node, reading("until=$stop;text=session $_"), user => 'bob') } 1 .. 2;
ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM dsocr.requests WHERE role = 'bob'}), 'sessions have all it may have');
queue('bob', 100);
queue('alice', 100);
ok($node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM dsocr.job_queue WHERE owner = 'alice'::regrole)}), 'jobs of others are done');
is(sql($node, q{SELECT count(*) FROM dsocr.job_queue}), 100, 'its own wait');
append_to_file($stop, '');
end_sql($_) for @sessions;
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM dsocr.job_queue)'), 'until the sessions have ended');
unlink $stop;

# All places are taken by slow jobs of one role: a few are left for others, of whom there may be
# more at a time than are told apart in shared memory.
stub_environment('slots=64;latency=0');
$node->restart;
wait_for_ready($node);
clear();
queue('alice', 100, commands => "until=$stop;");
ok($node->poll_query_until('postgres', 'SELECT count(*) >= 16 FROM dsocr.requests'), 'all places are taken');
sql($node, q{DO $$BEGIN FOR i IN 1 .. 100 LOOP EXECUTE format('CREATE ROLE r%s', i); END LOOP; END$$});
sql($node, 'DO $$BEGIN FOR i IN 1 .. 100 LOOP EXECUTE format(\'SET LOCAL ROLE r%s\', i); PERFORM dsocr_enqueue(' . image('text=r') . ' || i::text::bytea); END LOOP; END$$');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 100 FROM dsocr.job_done'), 'each of a hundred roles has its job done');
is(sql($node, 'SELECT count(*) FROM dsocr.job_queue'), 100, 'and the slow ones are there');
append_to_file($stop, '');
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM dsocr.job_queue)'), 'all end');
unlink $stop;

# Answers that are kept take no time of an engine, and roles take turns with them, too.
stub_environment('slots=4;latency=5');
$node->append_conf('postgresql.conf', 'dsocr.cache_size = 16MB');
sql($node, 'ALTER SYSTEM SET dsocr.run_jobs = off');
$node->restart;
wait_for_ready($node);
clear();
sql($node, reading('text=kept'));
sql($node, 'SELECT count(dsocr_enqueue(' . image('text=kept') . ')) FROM generate_series(1, 3000)', user => $_) for qw(alice carol);
go_on();
$n = first_done(1200);
between(($n->{carol} // 0) / 1200, 0.64, 0.86, 'three times the weight of what is kept');
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM dsocr.job_queue)'), 'all end');

# What claims cost: by the index, in order, and no more rows than they take.
set(q{auto_explain.log_min_duration = 0});
hold();
clear();
queue('alice', 2000);
queue('bob', 1);
my $offset = -s $node->logfile;
go_on();
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM dsocr.job_queue)'), 'all end');
set(q{auto_explain.log_min_duration = -1});
my $log = substr slurp_file($node->logfile), $offset;
my ($plans, $rows, $bad) = (0, 0, '');
while ($log =~ /duration: [\d.]+ ms  plan:\n(.*?\n\t?\})/gs)
{
	my $plan = $1;
	next unless $plan =~ /"Query Text": "SELECT (q\.id, q\.attempts|\(q\.priority)/;
	$plans++;
	$rows += ($plan =~ /"Actual Rows": (\d+)/)[0];
	$bad .= $plan if $plan !~ /"Index Name": "job_queue_order"/ || $plan =~ /Seq Scan|Sort|Rows Removed[^:]*: [1-9]/;
}
cmp_ok($plans, '>=', 100, 'claims are in the log');
is($bad, '', 'all go by the index, and throw nothing away');
between($rows / 2001, 0.99, 1.2, 'rows fetched for each job');

# Several sessions for other hosts, each with turns of its own.
SKIP:
{
	skip 'built without libpq', 10 unless can_join();
	grant_join($node);
	set('dsocr.run_jobs = remote');
	clear();
	sql($node, 'ALTER ROLE bob SET dsocr.max_requests_per_role = 1');
	queue('alice', 700);
	queue('carol', 600);
	queue('bob', 5, commands => "until=$stop;");
	my @workers = map { start_worker($node, conninfo($node), '--in-flight', '4') } 1 .. 2;
	$n = first_done(600);
	between($n->{carol} / 600, 0.64, 0.86, 'three times the weight with two workers');
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM dsocr.job_queue WHERE owner <> 'bob'::regrole}), 'a role at its limit holds up nobody there');
	ok(wait_until(sub { claims($node) eq '2' }), 'which has one job at each worker');
	$job = queue('dora', 1);
	is(sql($node, "SELECT (dsocr_wait($job, '60 s')).raw IS NOT NULL"), 't', 'a new role is found');
	append_to_file($stop, '');
	ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM dsocr.job_queue)'), 'all end');
	is(sql($node, 'SELECT count(*) FROM (SELECT id FROM dsocr.job_done GROUP BY id HAVING count(*) > 1) s'), 0, 'each once');
	end_worker($_, 'TERM') for @workers;

	# jobs that others have ended meanwhile cost no turns, though each lies alone between those of another role
	my ($late, $early) = map { $node->background_psql('postgres', on_error_stop => 1, extra_params => [ '-U', 'dsocr_remote' ]) } 1 .. 2;
	my $release = sql($node, q{SELECT extversion FROM pg_extension WHERE extname = 'dsocr'});
	$_->query_safe("SELECT dsocr_worker_begin(2, '$release', '', '')") for $late, $early;
	queue('dora', 30);
	is($late->query_safe('SELECT count(*) FROM dsocr_worker_claim(30, 0)'), '30', 'a role has had its turns');
	sql($node, 'DO $$BEGIN FOR i IN 1 .. 24 LOOP EXECUTE format(\'SET LOCAL ROLE %I\', (ARRAY[\'alice\', \'carol\'])[i % 2 + 1]); PERFORM dsocr_enqueue(' . image('text=r') . ' || i::text::bytea); END LOOP; END$$');
	is($early->query_safe('SELECT count(*) FROM dsocr_worker_claim(24, 0)'), '24', 'a worker has claimed jobs of two others');
	usleep(1_100_000);
	is($late->query_safe('SELECT count(*) FROM dsocr_worker_claim(24, 0)'), '0', 'another one sees them');
	sql($node, q{DELETE FROM dsocr.job_queue WHERE owner <> 'dora'::regrole});
	$early->quit;
	queue('dora', 1);
	usleep(2_500_000);
	is($late->query_safe('SELECT count(*) FROM dsocr_worker_claim(1, 0)'), '1', 'and none of them stands before a job of the first role');
	$late->quit;
}
$node->stop;
done_testing;
