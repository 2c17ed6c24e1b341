# What the role of a remote worker can do with its six functions, and what not.
use strict;
use warnings;

use Dsocr;
use DsocrJoin;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my $node = new_server('rights', conf => "dsocr.run_jobs = remote\ndsocr.max_attempts = 1\nmax_prepared_transactions = 5");
grant_join($node);
my $release = sql($node, q{SELECT extversion FROM pg_extension WHERE extname = 'dsocr'});
sql($node, <<'END');
REVOKE TEMP ON DATABASE postgres FROM PUBLIC;
CREATE ROLE alice;
GRANT CREATE ON SCHEMA public TO alice;
SET ROLE alice;
CREATE TABLE secret (id int PRIMARY KEY, image bytea, body text);
SELECT dsocr_attach('secret', 'image', 'body');
INSERT INTO secret VALUES (1, convert_to('STUB:text=of alice', 'UTF8'));
END
ok(wait_until(sub { sql($node, 'SELECT count(*) || max(key) FROM dsocr.job_queue') eq '1{1}' }), 'one job');
my $job = sql($node, 'SELECT id FROM dsocr.job_queue');

my $begin = "SELECT dsocr_worker_begin(2, '$release', 'print', 'model') > 0;\n";
my $claim = "SELECT job, bytes, convert_from(document, 'UTF8') FROM dsocr_worker_claim(5, 1000);\n";

# A session of the role: all output, errors on the way included.
sub session
{
	my ($script) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $script, extra_params => [ '-U', 'dsocr_remote' ], on_error_stop => 0);
	return "$out\n$err";
}
sub left { return sql($node, 'SELECT count(*) FROM dsocr.job_queue'); }

# a frame that says that the document cannot be read, for any job
sub answer
{
	my ($id, $message) = @_;
	my $body = pack('L<', 1) . pack('L<', length $message) . $message . pack('L<', 0);
	return q{decode('} . unpack('H*', pack('L<S<S<Q<Q<', 0x52434f44, 2, 4, $id, length $body) . $body) . q{', 'hex')};
}

# nothing without these functions
like(session($_), qr/permission denied/, $_) for 'SELECT * FROM dsocr.job_queue', 'SELECT * FROM dsocr.job_done',
  'SELECT * FROM dsocr.job_failed', 'SELECT * FROM dsocr.job_quarantine', 'SELECT * FROM secret', q{UPDATE secret SET body = 'x'},
  'INSERT INTO dsocr.job_queue (owner) VALUES (current_user::regrole)', "SELECT nextval('dsocr.job_id')",
  'CREATE TABLE t (x int)', 'CREATE TEMP TABLE t (x int)', 'SELECT dsocr_reload()', 'SELECT dsocr_quarantine_clear()',
  q{SET dsocr.worker_lease = '1d'}, q{SET dsocr.worker_fingerprint = ''}, q{SET dsocr.max_image_bytes = '1GB'};
is(session('SELECT count(*) FROM dsocr.jobs'), "0\n", 'no job of others is seen');
like(session("SELECT dsocr_cancel($job)"), qr/does not exist|permission|f\n/, 'nor can one be cancelled');

# nothing without joining, and nothing of jobs that are not the session's
like(session($_), qr/has not joined/, $_) for $claim, 'SELECT dsocr_worker_keep()', "SELECT dsocr_worker_fetch($job, 0, 10)",
  "SELECT dsocr_worker_finish($job, '')", "SELECT dsocr_worker_release($job)";
like(session($begin . $_), qr/not claimed by this session/, "not claimed: $_") for "SELECT dsocr_worker_fetch($job, 0, 10)",
  "SELECT dsocr_worker_finish($job, " . answer($job, 'no') . ')', "SELECT dsocr_worker_release($job)";
like(session("SELECT dsocr_worker_begin(2, '0.0.9', '', '')"), qr/the worker is dsocr 0\.0\.9 \(protocol 2\), this server \Q$release\E/, 'another release');

# a part of the document, and no more
my $claimed = qr/^$job\|18\|STUB:text=of alice$/m;
like(session($begin . $claim), $claimed, 'claimed, with its document');
like(session($begin . $claim . "SELECT convert_from(dsocr_worker_fetch($job, 5, 4), 'UTF8')"), qr/^text$/m, 'a part');
like(session($begin . $claim . "SELECT dsocr_worker_fetch($job, $_)"), qr/no such part/, "no such part: $_") for '-1, 5', '0, -5', '19, 1';
like(session($begin . $claim . $claim . 'SELECT 7'), qr/$claimed\n7/, 'claimed once');
like(session($begin . $claim . "SELECT dsocr_worker_release($job); SELECT dsocr_worker_fetch($job, 0, 10)"), qr/not claimed/, 'not after it was given back');
is(left(), '1', 'it is still there');

# two sessions: the second gets nothing while the first has it
my $first = begin_sql($node, $begin . $claim . 'SELECT pg_sleep(3)', user => 'dsocr_remote');
ok(wait_until(sub { claims($node) eq '1' }), 'claimed by one');
unlike(session($begin . $claim), $claimed, 'not by another');
like(session($begin . "SELECT dsocr_worker_finish($job, " . answer($job, 'mine') . ')'), qr/not claimed by this session/, 'nor ended by it');
end_sql($first);
is(claims($node), '0', 'free with the session');

# answers that are not for this job, and answers that do not count
like(session($begin . $claim . "SELECT dsocr_worker_finish($job, " . answer($job, 'no image') . ', -1)'), qr/must not be negative/, 'time that was given back');
my $end = "SELECT dsocr_worker_finish($job, " . answer($job, 'no image') . ')';
like(session($begin . $claim . "SELECT dsocr_worker_finish($job, " . answer($job + 1, 'no image') . ')'), qr/malformed/, 'an answer of another job');
like(session("$begin$claim BEGIN; $end; ROLLBACK; SELECT 'after', dsocr_worker_release($job)"), qr/^t\nafter\|t$/m, 'an end that is rolled back is none');
session("$begin$claim BEGIN; SAVEPOINT s; $end; ROLLBACK TO s; COMMIT");
is(left(), '1', 'nor one of a savepoint');
like(session("$begin$claim BEGIN; $end; $end"), qr/was ended by this transaction/, 'not twice in a transaction');
like(session("$begin$claim BEGIN; $end; PREPARE TRANSACTION 'x'"), qr/cannot PREPARE/, 'not prepared');
is(left(), '1', 'it is still there');
my $long = $end =~ s/\)$/, 9223372036854775807)/r;
like(session("$begin$claim $long; $end"), qr/^t\n[^\n]*not claimed by this session/m, 'nor after it was ended');
is(left(), '0', 'ended');
is(sql($node, q{SELECT bool_and(device_seconds < 3600) FROM dsocr.usage WHERE role = 'alice'}), 't', 'nobody worked for longer than they were here');
is(sql($node, q{SELECT reason || ' ' || sqlstate || ' ' || owner FROM dsocr.failures}), 'no image 22P03 alice', 'once, as a failure of its role');
is(sql($node, 'SELECT coalesce(body, $$-$$) FROM secret'), '-', 'and nothing was written');

# settings of the session do not turn off what protects rows
sql($node, q{SET ROLE alice; CREATE POLICY p ON secret USING (id <> 2); ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
	ALTER TABLE secret FORCE ROW LEVEL SECURITY; INSERT INTO secret VALUES (3, convert_to('STUB:text=three', 'UTF8'))});
sql($node, q{INSERT INTO secret VALUES (2, convert_to('STUB:text=two', 'UTF8'))});
my $seen = session("SET row_security = off; SET search_path = public; SET session_replication_role = replica; $begin$claim");
like($seen, qr/text=three/, 'a row that its owner sees');
unlike($seen, qr/text=two/, 'and none that it does not');
unlike(log_of($node), qr/PANIC|TRAP|signal 11/, 'nothing in the log');
$node->stop;
done_testing();
