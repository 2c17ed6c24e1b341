# A host whose engines cannot read anything: after a death the next engine reads
# a blank page first, no document is blamed, and others get the jobs.
use strict;
use warnings;

use Dsocr;
use DsocrJoin;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my ($node, $conninfo) = join_server('join_trial', pages => 'stub');
my $dir = $node->basedir;
my @stub = ('--pages', Dsocr::pages_program('stub'));

sub worker { my ($environment, @options) = @_; local $ENV{DSOCR_STUB} = $environment; return start_worker($node, $conninfo, @stub, @options); }
sub log_has { my ($worker, $what) = @_; return wait_until(sub { worker_log($worker) =~ $what }, 60); }
sub states { return sql($node, "SELECT string_agg(DISTINCT state || ' ' || attempts, ', ') FROM dsocr.jobs"); }

# its engines die of every image that does not tell them otherwise, blank pages included
my @jobs = map { sql($node, "SELECT dsocr_enqueue(convert_to('an image $_', 'UTF8'))") } 1 .. 5;
push @jobs, sql($node, q{SELECT dsocr_enqueue('%PDF-1.4 STUB:pages=3;each=crash'::bytea)});
my $broken = worker('latency=0;crash');
ok(log_has($broken, qr/the engine has died on a blank page\n(.*\n)*.*the engine has died on a blank page/), 'engines die of a blank page');
ok(log_has($broken, qr/lost the database with \d+ jobs: the engine does not come back/), 'the jobs are given back');
ok(wait_until(sub { claims($node) eq '0' }), 'no claim is left');
is(states(), 'queued 0', 'and no document is blamed');
sql($node, "SELECT dsocr_cancel($jobs[-1])");
my $healthy = worker('latency=0', '--once');
is(end_worker($healthy), 0, 'another worker') or diag worker_log($healthy);
is(sql($node, q{SELECT count(*) FROM dsocr.job_done WHERE attempts = 1 AND result ->> 'raw' LIKE 'stub: % bytes'}), '5', 'reads them');
is(sql($node, 'SELECT count(*) FROM dsocr.job_quarantine'), '0', 'none is in quarantine');
is(end_worker($broken, 'TERM'), 0, 'ended in order') or diag worker_log($broken);

# one that comes to itself again: it dies of the first blank page only
my $job = sql($node, 'SELECT dsocr_enqueue(' . image("crash-once=$dir/image;text=fine") . ')');
my $shaken = worker("latency=0;crash-once=$dir/blank");
is(sql($node, "SELECT (dsocr_wait($job, '60 s')).raw"), 'fine', 'read after two deaths');
ok(-e "$dir/blank", 'of which one was that of a blank page');
is(sql($node, "SELECT state || ' ' || attempts FROM dsocr.jobs WHERE id = $job"), 'done 1', 'which is not its fault');
unlike(worker_log($shaken), qr/lost the database/, 'the worker has kept it');

# documents that kill engines are blamed all the same, for their engines can read
$job = sql($node, 'SELECT dsocr_enqueue(' . image('crash') . ')');
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.job_quarantine') eq '1' }, 60), 'a deadly document');
is(sql($node, "SELECT state || ' ' || attempts || ' ' || sqlstate FROM dsocr.jobs WHERE id = $job"), 'failed 2 58000', 'has failed');

# one that hangs on the page is replaced
my $hanging = worker("latency=0;until=$dir/go", '--engine-timeout', '3');
is(end_worker($shaken, 'TERM'), 0, 'ended in order') or diag worker_log($shaken);
$job = sql($node, 'SELECT dsocr_enqueue(' . image("crash-once=$dir/second;text=in the end") . ')');
ok(log_has($hanging, qr/silent for too long and has been ended on a blank page/), 'an engine hangs on it');
append_to_file("$dir/go", '');
is(sql($node, "SELECT (dsocr_wait($job, '60 s')).raw"), 'in the end', 'read by the next one');
is(end_worker($hanging, 'TERM'), 0, 'ended in order') or diag worker_log($hanging);
unlike(log_of($node), qr/PANIC|TRAP|signal 11/, 'nothing in the log');
$node->stop;
done_testing();
