# A standby runs no jobs until it is promoted.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my $primary = new_server('primary', init => { allows_streaming => 1 }, conf => 'dsocr.run_jobs = off');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->adjust_conf('postgresql.conf', 'dsocr.run_jobs', 'on');
$standby->start;

my $job = sql($primary, 'SELECT dsocr_enqueue(' . image('text=waits') . ')');
$primary->wait_for_catchup($standby);
my ($out, $err) = try_sql($standby, 'SELECT dsocr_enqueue(' . image('text=x') . ')');
like($err, qr/cannot execute INSERT in a read-only transaction/, 'a standby queues nothing');
is(sql($standby, "SELECT state FROM dsocr.jobs WHERE id = $job"), 'queued', 'but shows what is queued');
($out, $err) = try_sql($standby, "SELECT dsocr_wait($job, '100 ms')");
like($err, qr/has not ended within the timeout/, 'and waits for it');
is(sql($standby, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dsocr job%'"), '0', 'it runs no jobs');

$primary->stop('immediate');
$standby->promote;
my $took = wait_until(sub { sql($standby, "SELECT state FROM dsocr.jobs WHERE id = $job") eq 'done' }, 20);
cmp_ok($took // 99, '<', 10, 'jobs run after the promotion');
is(sql($standby, "SELECT (dsocr_wait($job)).raw"), 'waits', 'with their result');
$standby->stop;
done_testing();
