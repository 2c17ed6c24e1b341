# Documents of several pages are read by workers on other hosts as the server
# reads them: the same texts, the same rows, the same failures.
use strict;
use warnings;

use Dsocr;
use DsocrJoin;
use DsocrPdf;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

stub_environment('latency=0');
my ($node, $conninfo) = join_server('join_pages', pages => 'stub', conf => 'dsocr.max_pages = 1000');
my $dir = $node->basedir;
my @stub = ('--pages', Dsocr::pages_program('stub'));

sub pdf { my ($commands) = @_; return "'%PDF-1.4 STUB:$commands'::bytea"; }
sub job { my ($commands, $options) = @_; return sql($node, 'SELECT dsocr_enqueue(' . pdf($commands) . ($options ? ", $options" : '') . ')'); }

# by the server's own runner, and then from afar
my @documents = (
	[ 'of 20 pages', 'pages=20' ],
	[ 'longer than what is in flight', 'pages=300;each=text=line of #' ],
	[ 'of one page', 'pages=1;each=text=alone' ],
	[ 'with a page that the engine cannot decode', 'pages=4;page2=error=1:no -- image;each=text=p#' ],
	[ 'with pages that cannot be made', 'pages=5;fail3=1:broken;fail5=3:too large;each=text=p#' ],
	[ 'in which no page can be read', 'pages=3;each=error=1:nothing there' ],
	[ 'that cannot be opened', 'open-error=1:no such thing' ],
	[ 'with a page that fails each time', 'pages=3;page2=error=10:a bug;each=text=p#' ],
	[ 'that wants a password', 'pages=2;password=word' ],
	[ 'of which some pages are wanted', 'pages=20', q{pages => '[5,7]'} ],
	[ 'whose end is wanted', 'pages=20', q{pages => '[19,)'} ],
	[ 'without those that are wanted', 'pages=3', q{pages => '[5,7]'} ],
	[ 'of too many pages', 'open-error=3:document has more pages than allowed' ]);
sub outcome
{
	my ($job) = @_;
	my $state = job_end($node, $job);

	return join ' ', $state, sql($node, "SELECT coalesce((SELECT error FROM dsocr.job_failed WHERE id = $job), (SELECT result::text FROM dsocr.job_done WHERE id = $job))") =~ s/"decode": [\d.]+/"decode": 0/gr;
}
sub run_jobs
{
	my ($how) = @_;
	sql($node, "ALTER SYSTEM SET dsocr.run_jobs = $how");
	sql($node, 'SELECT pg_reload_conf()');
	ok(wait_until(sub { sql($node, 'SHOW dsocr.run_jobs') eq $how }), "dsocr.run_jobs = $how");
	return;
}
run_jobs('on');
my @jobs = map { job($_->[1], $_->[2]) } @documents;
my @here = map { outcome($_) } @jobs;
run_jobs('remote');
@jobs = map { job($_->[1], $_->[2]) } @documents;
my $worker = start_worker($node, $conninfo, @stub);
for my $i (0 .. $#documents)
{
	is(outcome($jobs[$i]), $here[$i], "a document $documents[$i][0]");
}

# a long document takes no more memory than a short one: images of 1 MB, a thousand of them
my $long = job('pages=1000;bytes=1000000;each=text=p#');
my $most = 0;
while (job_state($node, $long) =~ /^queued/)
{
	my %tree = process_tree($worker->{pid});

	$most = $tree{ $worker->{pid} }{memory} if $tree{ $worker->{pid} } && $tree{ $worker->{pid} }{memory} > $most;
	usleep(50_000);
}
is(job_state($node, $long), 'done 1', 'a long document is read');
like(sql($node, "SELECT (dsocr_wait($long, '1 s')).raw"), qr/<!-- page 1000 -->\n\np1000$/, 'to its end');
cmp_ok($most, '>', 0, 'its worker was looked at');
cmp_ok($most, '<', 256e6, 'its worker stays small') or diag $most;
diag sprintf 'private memory of the worker: %.1f MB', $most / 1e6;
is(end_worker($worker, 'TERM'), 0, 'ended in order') or diag worker_log($worker);
$node->stop;
done_testing();
