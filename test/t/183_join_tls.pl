# Workers over TLS: certificates of server and worker, passwords in files, and
# none of it in the hands of the engine.
use strict;
use warnings;

use Dsocr;
use DsocrJoin;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

plan(skip_all => 'openssl is not there') if system('openssl version > /dev/null 2>&1') != 0;
plan(skip_all => 'built without libpq') unless can_join();
stub_environment('latency=0');
my $node = new_server('tls', conf => "listen_addresses = '127.0.0.1'\ndsocr.run_jobs = remote");
my $keys = $node->basedir . '/keys';
mkdir $keys or die "mkdir: $!";

sub openssl { my ($command) = @_; return system("openssl $command > /dev/null 2>&1") == 0 || die "openssl $command"; }

# signed by itself, and for a worker by a CA of its own
openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout $keys/server.key -out $keys/server.crt");
openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other -keyout $keys/ca.key -out $keys/ca.crt");
openssl("req -newkey rsa:2048 -nodes -subj /CN=dsocr_remote -keyout $keys/worker.key -out $keys/worker.csr");
openssl("x509 -req -days 2 -in $keys/worker.csr -CA $keys/ca.crt -CAkey $keys/ca.key -CAcreateserial -out $keys/worker.crt");
chmod 0600, glob "$keys/*.key";
grant_join($node);
sql($node, q{CREATE ROLE with_password LOGIN PASSWORD 'Geheim!'; GRANT dsocr_remote TO with_password});
$node->append_conf('postgresql.conf', "ssl = on\nssl_cert_file = '$keys/server.crt'\nssl_key_file = '$keys/server.key'\nssl_ca_file = '$keys/ca.crt'\n");
unlink $node->data_dir . '/pg_hba.conf';
$node->append_conf('pg_hba.conf', "local all all trust\nhostssl all dsocr_remote 127.0.0.1/32 cert\nhostssl all with_password 127.0.0.1/32 scram-sha-256\n");
$node->restart;

my $where = 'host=localhost hostaddr=127.0.0.1 dbname=postgres port=' . $node->port;
my $cert = "$where user=dsocr_remote sslcert=$keys/worker.crt sslkey=$keys/worker.key";
sub job { return sql($node, 'SELECT dsocr_enqueue(' . image('text=over tls') . ')'); }
sub result_of { my ($job) = @_; return sql($node, "SELECT (dsocr_wait($job, '1 s')).raw"); }

# both ends show a certificate
my $job = job();
my $worker = start_worker($node, "$cert sslmode=verify-full sslrootcert=$keys/server.crt", '--once');
is(end_worker($worker), 0, 'joined') or diag worker_log($worker);
is(result_of($job), 'over tls', 'and worked');

# who is not who he says, or says nothing
for my $bad (
	[ "$cert sslmode=verify-full sslrootcert=$keys/ca.crt", qr/could not connect: .*certificate verify failed/, 'another server' ],
	[ "$where user=dsocr_remote sslmode=verify-full sslrootcert=$keys/server.crt sslcert=/none", qr/could not connect: .*certificate/, 'no certificate' ],
	[ "$cert sslmode=disable", qr/could not connect: .*no encryption/, 'no TLS' ])
{
	my ($conninfo, $message, $name) = @$bad;
	$worker = start_worker($node, $conninfo, '--once');
	ok(wait_until(sub { worker_log($worker) =~ $message }), $name) or diag worker_log($worker);
	is(end_worker($worker, 'TERM'), 0, 'ends while it waits for the server');
}

# a password, from a file, over an encrypted session
append_to_file("$keys/pgpass", "*:*:*:with_password:Geheim!\n");
chmod 0600, "$keys/pgpass";
{
	local $ENV{PGPASSFILE} = "$keys/pgpass";
	local $ENV{PGPASSWORD};
	$worker = start_worker($node, "$where user=with_password sslmode=verify-full sslrootcert=$keys/server.crt");
}
$job = job();
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.job_queue') eq '0' }), 'drained') or diag worker_log($worker);
is(sql($node, q{SELECT ssl || ' ' || (version ~ 'TLS') FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'with_password'}), 'true true', 'encrypted');
is(end_worker($worker, 'TERM'), 0, 'ended');

# in the environment it gets as far as libpq
{
	local $ENV{PGPASSWORD} = 'Geheim!';
	$worker = start_worker($node, "$where user=with_password sslmode=require");
}
ok(wait_until(sub { worker_log($worker) =~ /joined/ }), 'joined') or diag worker_log($worker);
my ($child) = slurp_file("/proc/$worker->{pid}/task/$worker->{pid}/children") =~ /^(\d+)/;
like(slurp_file("/proc/$worker->{pid}/environ"), qr/Geheim/, 'the process has it');
unlike(slurp_file("/proc/$child/environ"), qr/Geheim|PGPASS/, 'but not its engine');
unlike(slurp_file("/proc/$child/cmdline") . worker_log($worker), qr/Geheim/, 'nor who looks at it');
is(end_worker($worker, 'TERM'), 0, 'ended');

# a wrong password is tried again, as the right one may come
$worker = start_worker($node, "$where user=with_password password=wrong sslmode=require", '--once');
ok(wait_until(sub { worker_log($worker) =~ /password authentication failed/ }), 'a wrong password');
is(end_worker($worker, 'TERM'), 0, 'ended');
$node->stop;
done_testing();
