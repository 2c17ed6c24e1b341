# A changed model is loaded by SIGHUP: what runs ends on the old one, what comes
# later is read by the new one, nothing fails.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('slow-load=0.5');
my $node = new_server('reload');
my $base = $node->basedir;
mkdir "$base/model-b" or die;

sub model_of_result
{
	my ($commands) = @_;
	return 'SELECT (r).raw || \' \' || (r).model FROM (SELECT dsocr_try('
	  . image($commands) . ') AS r OFFSET 0) s';
}

is($node->safe_psql('postgres', model_of_result('text=now')), 'now model-a', 'first model');
my $engine = engine_pid($node);
my @old = map { begin_sql($node, model_of_result("sleep=2;text=old $_")) } 1 .. 4;
$node->poll_query_until('postgres', "SELECT count(*) = 4 FROM t.requests() WHERE state = 'running'");
$node->append_conf('postgresql.conf', "dsocr.model = '$base/model-b'");
$node->reload;
$node->poll_query_until('postgres', "SHOW dsocr.model", "$base/model-b");
select undef, undef, undef, 0.3;
my @new = map { begin_sql($node, model_of_result("text=new $_")) } 1 .. 4;
is((end_sql($old[ $_ - 1 ]))[1], "old $_ model-a", "running request $_ ends on the old model")
  for 1 .. 4;
is((end_sql($new[ $_ - 1 ]))[1], "new $_ model-b", "later request $_ is read by the new model")
  for 1 .. 4;
isnt(engine_pid($node), $engine, 'another engine');
ok(!alive($engine), 'the old one has ended');

# A reload that changes nothing of ours leaves the engine alone.
$engine = engine_pid($node);
$node->append_conf('postgresql.conf', 'work_mem = 5MB');
$node->reload;
$node->safe_psql('postgres', reading('sleep=0.5'));
is(engine_pid($node), $engine, 'engine was kept');

# Weights and threads are the engine's options.
$node->append_conf('postgresql.conf', "dsocr.weights = fp32\ndsocr.threads = 1");
$node->reload;
ok($node->poll_query_until('postgres',
	"SELECT weights = 'fp32' AND state = 'ready' FROM t.workers()"), 'weights were changed');

# A bad model takes over and gives way again.
$node->append_conf('postgresql.conf', "dsocr.model = '$base/model-c'");
$node->reload;
ok($node->poll_query_until('postgres', "SELECT state = 'failed' FROM t.workers()"), 'no model');
my ($rc, $out, $err) = $node->psql('postgres', reading('text=x'));
like($err, qr/could not open model folder/, 'is said at once');
$node->append_conf('postgresql.conf', "dsocr.model = '$base/model-a'");
$node->reload;
ok(wait_for_ready($node), 'the first model again');

# dsocr_reload starts the engine anew, and is not for everybody by its grants;
# here only its effect is looked at.
$engine = engine_pid($node);
is($node->safe_psql('postgres', 'SELECT t.reload()'), 1, 'one worker was told');
ok(wait_until(sub { my $now = engine_pid($node); $now && $now ne $engine }), 'engine was replaced');
is($node->safe_psql('postgres', model_of_result('text=back')), 'back model-a', 'reads');
is($node->safe_psql('postgres', "SELECT sum(failed) + sum(retried) FROM t.stats() WHERE device = 'cpu'"),
	0, 'no request suffered');
unlike(slurp_file($node->logfile), qr/terminated by signal/, 'no engine had to be killed');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
