# A worker on another host with the real engine and the built-in model gives
# what the server's own engine gives, to the last digit.
use strict;
use warnings;

use Dsocr;
use DsocrFiles;
use DsocrJoin;
use DsocrSql;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

plan(skip_all => 'built without libpq') unless can_join();
my $engine = program('dsocr-engine');
my $node = new_server('model', no_wait => 1, conf => <<"END");
listen_addresses = '127.0.0.1'
dsocr.engine_path = '$engine'
dsocr.model = ''
dsocr.max_tokens = 300
END
grant_join($node);
wait_for_ready($node);
my $fingerprint = sql($node, 'SELECT max(fingerprint) FROM t.workers()');
like($fingerprint, qr/^[0-9a-f]{16,}$/, 'the model of the server');

sub join_with_model
{
	my (@options) = @_;
	my $log = PostgreSQL::Test::Utils::tempdir_short() . '/worker';
	my $run = IPC::Run::start([ 'dsocr-engine', 'join', '--threads', '1', @options, conninfo($node) ], '>', $log, '2>&1');
	$run->finish;
	return ($? >> 8, slurp_file($log));
}

# the same documents by the server and by the worker
sub read_all
{
	my ($into, $code) = @_;
	sql($node, "TRUNCATE dsocr.job_done; CREATE TABLE $into AS SELECT name, dsocr_enqueue(image, prompt => prompt) AS job FROM document");
	$code->();
	ok(wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.job_queue') eq '0' }, 120), "$into: all are read");
	sql($node, "ALTER TABLE $into ADD result jsonb; UPDATE $into AS i SET result = d.result FROM dsocr.job_done AS d WHERE d.id = i.job");
	return;
}
sql($node, 'CREATE TABLE document (name text, image bytea, prompt text)');
sql($node, "INSERT INTO document SELECT n || coalesce(' ' || p, ''), pg_read_binary_file('$ENV{DSOCR_TOP}/' || f), p FROM (VALUES FILES) AS v (n, f), (VALUES (NULL), (E'<image>\\nFree OCR.')) AS q (p)"
	  =~ s/FILES/join ", ", map { "('$_', 'test\/samples\/$_.png')" } qw(letter notice receipt)/er);
read_all('here', sub { });
sql($node, 'ALTER SYSTEM SET dsocr.run_jobs = remote');
sql($node, "ALTER SYSTEM SET dsocr.worker_fingerprint = '$fingerprint'");
$node->reload;
my ($status, $log);
read_all('there', sub { ($status, $log) = join_with_model('--once'); });
is($status, 0, 'joined with the same model') or diag $log;
like($log, qr/joined the database with model \S+ \($fingerprint\) on /, 'as it says');
is(sql($node, q{SELECT count(*) FROM there WHERE coalesce(result ->> 'raw', result ->> 'markdown') <> ''}), sql($node, 'SELECT count(*) FROM document'), 'every document has a text');
is(sql($node, q{SELECT name, here.result, there.result FROM here JOIN there USING (name)
	WHERE here.result - '{timings,pages}'::text[] IS DISTINCT FROM there.result - '{timings,pages}'::text[]
	AND (here.result ->> 'raw') = (there.result ->> 'raw')}), '', 'the same in all else');
is(sql($node, q{SELECT count(*) FROM (SELECT name, result ->> 'raw', result ->> 'markdown', result ->> 'confidence' FROM here
	EXCEPT SELECT name, result ->> 'raw', result ->> 'markdown', result ->> 'confidence' FROM there) AS x}), '0', 'the same texts and confidences');

# another model
sql($node, q{ALTER SYSTEM SET dsocr.worker_fingerprint = '0123456789abcdef'});
$node->reload;
($status, $log) = join_with_model();
is($status, 3, 'turned away with another');
like($log, qr/could not join: ERROR:  the worker has another model than this database wants.*$fingerprint/s, 'and told why');
($status, $log) = join_with_model('--model', '/none');
is($status, 1, 'a model that is not there');
like($log, qr{/none}, 'is named');
($status, $log) = join_with_model('--frobnicate');
is($status, 2, 'wrong usage');
unlike(log_of($node), qr/PANIC|TRAP|signal 11/, 'nothing in the log');
$node->stop;
done_testing();
