# Two devices, of which one has no worker: the other one's troubles are told.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('slots=4');
my $node = new_server('pair', no_wait => 1, conf => <<'END');
dsocr.devices = 'cpu, cpu'
dsocr.model = '/nonexistent/model'
max_logical_replication_workers = 0
max_worker_processes = 1
END
like(slurp_file($node->logfile), qr/too many background workers/, 'the second worker finds no room');
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM t.workers() WHERE state = 'failed'");
my ($rc, $out, $err) = $node->psql('postgres', "SET statement_timeout = '25s'; " . reading('text=x'));
like($err, qr/could not open model folder/, 'a request fails with the reason of the device that is there');
is_at_baseline($node, 'nothing is left');

$node->append_conf('postgresql.conf', "dsocr.model = ''\n");
$node->reload;
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM t.workers() WHERE state = 'ready'");
is($node->safe_psql('postgres', reading('text=one')), 'one', 'one device is enough');
$node->stop;
done_testing();
