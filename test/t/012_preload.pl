# Without preloading: the error with its HINT, and nothing worse.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('preload', stopped => 1, conf => "shared_preload_libraries = ''");
$node->start;
Dsocr::create_extension($node);

for my $sql (reading('text=x'), 'SELECT * FROM t.status()', 'SELECT * FROM t.workers()',
	'SELECT * FROM t.requests()', 'SELECT * FROM t.stats()', 'SELECT t.reset()', 'SELECT t.reload()')
{
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	like($err,
		qr/55000: dsocr must be loaded via shared_preload_libraries.*HINT:  Add the line "shared_preload_libraries = 'dsocr'".*restart/s,
		"$sql: says what to do");
}
is($node->safe_psql('postgres', "LOAD 'dsocr'; SET dsocr.mode = 'tiny'; SHOW dsocr.mode"),
	'tiny', 'settings of the user are there');
unlike(slurp_file($node->logfile), qr/WARNING/, 'no warnings');

# Preloaded, but without any device, or without room for the worker.
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dsocr'\ndsocr.devices = ''");
$node->restart;
my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n" . reading('text=x'));
like($err, qr/55000: no dsocr worker is running.*HINT/s, 'no device');
$node->append_conf('postgresql.conf',
	"dsocr.devices = 'cpu'\nmax_worker_processes = 0\nmax_parallel_workers = 0");
$node->restart;
($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n" . reading('text=x'));
like($err, qr/55000: no dsocr worker is running.*HINT.*max_worker_processes/s, 'no room for the worker');
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;

# The function of an older or newer extension is told apart by its columns.
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
$node->start;
$node->safe_psql('postgres', "CREATE FUNCTION t.old(OUT version text, OUT workers int4)
	RETURNS SETOF record LANGUAGE c AS 'dsocr', 'dsocr_status'");
($rc, $out, $err) = $node->psql('postgres', 'SELECT * FROM t.old()');
like($err, qr/extension dsocr does not fit to its library.*HINT/s, 'another version of the SQL side');
is($node->safe_psql('postgres', reading('text=fine')), 'fine', 'reads');
$node->stop;
done_testing();
