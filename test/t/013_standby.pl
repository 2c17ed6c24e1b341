# A standby reads with a worker of its own, before and after it is promoted.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_server('primary', init => { allows_streaming => 1 });
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

ok(wait_for_ready($standby), 'the standby has a worker');
is($standby->safe_psql('postgres', reading('text=on the standby')), 'on the standby', 'reads');
is($standby->safe_psql('postgres', 'BEGIN READ ONLY; ' . reading('text=read only') . '; COMMIT'),
	'read only', 'reads in a read-only transaction');
isnt(engine_pid($standby), engine_pid($primary), 'with an engine of its own');

my $worker = $standby->safe_psql('postgres', 'SELECT pid FROM t.workers()');
my $reader = begin_sql($standby, reading('sleep=3;text=through the promotion'));
$standby->poll_query_until('postgres', 'SELECT slots_used = 1 FROM t.status()');
$standby->promote;
is((end_sql($reader))[1], 'through the promotion', 'a promotion disturbs nobody');
is($standby->safe_psql('postgres', 'SELECT pid FROM t.workers()'), $worker, 'nor the worker');
is($standby->safe_psql('postgres', reading('text=as primary')), 'as primary', 'reads');
is_at_baseline($standby, 'nothing is left in the queue');
$standby->stop;
$primary->stop;
done_testing();
