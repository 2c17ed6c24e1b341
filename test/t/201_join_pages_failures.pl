# Documents of several pages and workers on other hosts that die, whose page
# servers or engines die, whose jobs are cancelled, or who lie.
use strict;
use warnings;

use Dsocr;
use DsocrJoin;
use DsocrPdf;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my ($node, $conninfo) = join_server('join_lost_pages', pages => 'stub', conf => 'dsocr.worker_lease = 10s');
my $dir = $node->basedir;
my @stub = ('--pages', Dsocr::pages_program('stub'));

sub pdf { my ($commands) = @_; return "'%PDF-1.4 STUB:$commands'::bytea"; }
sub job { my ($commands) = @_; return sql($node, 'SELECT dsocr_enqueue(' . pdf($commands) . ')'); }
sub raw { my ($job) = @_; return sql($node, "SELECT (dsocr_wait($job, '30 s')).raw"); }
sub error_of { my ($job) = @_; return sql($node, "SELECT error FROM dsocr.job_failed WHERE id = $job"); }
sub text_of { my ($n) = @_; return join '', map { ($_ > 1 ? "\n\n<!-- page $_ -->\n\n" : '') . "page $_" } 1 .. $n; }
sub child
{
	my ($worker, $name) = @_;
	my %tree = process_tree($worker->{pid});
	return (grep { $tree{$_}{name} eq $name && $tree{$_}{parent} == $worker->{pid} } keys %tree)[0];
}
# 60 pages, read up to the sixth, which waits to be let go
sub held { my ($mark) = @_; return "pages=60;page5=mark=$dir/$mark,text=page 5;page6=until=$dir/$mark-go,text=page 6"; }
sub let_go { my ($mark) = @_; append_to_file("$dir/$mark-go", ''); return; }
sub is_read { my ($mark) = @_; return wait_until(sub { -e "$dir/$mark" }, 60); }

# page servers that die of a page, or of a document, once and each time
my $worker = start_worker($node, $conninfo, @stub, '--in-flight', 4);
is(raw(job("pages=20;crash-once7=$dir/once")), text_of(20), 'died on a page');
is(raw(job("pages=20;open-crash-once=$dir/open")), text_of(20), 'died on a document');
my $deadly_page = job('pages=4;crash3');
my $deadly = job('open-crash');
my @others = map { job("pages=$_;sleep=0.01") } 1 .. 5;
is(raw($deadly_page), "page 1\n\n<!-- page 2 -->\n\npage 2\n\n<!-- page 3 -->\n\n<!-- page 3: engine_error: the page server died twice on this page -->\n\n<!-- page 4 -->\n\npage 4", 'a deadly page costs itself alone');
is(job_state($node, $deadly_page), 'done 2', 'after all attempts');
is(job_end($node, $deadly), 'failed 2 58000', 'a deadly document fails');
is(error_of($deadly), 'the page server died twice', 'and why');
is(job_end($node, $_) . ' ' . raw($_), 'done 1 ' . text_of($_ - $others[0] + 1), 'a neighbour is not to blame') for @others;
is(sql($node, 'SELECT count(*) FROM dsocr.job_quarantine'), '1', 'it is in quarantine');

# engines that die of a page
is(raw(job("pages=6;page2=crash-once=$dir/engine,text=page 2")), text_of(6), 'an engine died on a page');
is(raw(job('pages=3;page2=crash')), "page 1\n\n<!-- page 2 -->\n\n<!-- page 2: engine_error: the engine died twice on this request -->\n\n<!-- page 3 -->\n\npage 3", 'a page that kills engines');

# killed from outside in the middle of a document
my $job = job(held('seen'));
ok(is_read('seen'), 'some pages have been read');
ok(kill('KILL', child($worker, 'stub_pages')), 'the page server is killed');
let_go('seen');
is(raw($job), text_of(60), 'the document is whole');
is(job_state($node, $job), 'done 1', 'at the first attempt');
like(worker_log($worker), qr/the page server has died/, 'the log says so');

# the worker itself
sql($node, <<'END');
CREATE TABLE scan (id int PRIMARY KEY, image bytea);
SELECT dsocr_attach('scan', 'image', side_table => 'scan_pages');
CREATE TABLE written (page int);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.written VALUES (NEW.page); RETURN NULL; END$$;
CREATE TRIGGER note AFTER INSERT ON scan_pages FOR EACH ROW EXECUTE FUNCTION note();
END
sql($node, 'INSERT INTO scan VALUES (1, ' . pdf(held('row')) . ')');
ok(is_read('row'), 'some pages have been read');
kill 'KILL', $worker->{pid};
end_worker($worker);
is(sql($node, 'SELECT count(*) FROM scan_pages'), '0', 'nothing of them is to be seen');
let_go('row');
my $other = start_worker($node, $conninfo, @stub, '--in-flight', 4);
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM scan_pages') eq '60' }, 60), 'another one reads it');
is(sql($node, q{SELECT string_agg(text || ' ' || status, ',' ORDER BY page) FROM scan_pages}), join(',', map { "page $_ ok" } 1 .. 60), 'each page');
is(sql($node, 'SELECT count(*) || $$ $$ || count(DISTINCT page) FROM written'), '60 60', 'once');
is(sql($node, q{SELECT done || ' ' || queued FROM dsocr.progress}), '1 0', 'the row is done');

# given up in the middle, while another one is read
$job = job(held('given-up'));
ok(is_read('given-up'), 'some pages have been read');
is(sql($node, "SELECT dsocr_cancel($job)"), 't', 'cancelled');
ok(wait_until(sub { claims($node) eq '0' }, 30), 'the worker has let go');
is(raw(job('pages=3')), text_of(3), 'and goes on');

# in order, with a document in flight
$job = job(held('last'));
ok(is_read('last'), 'some pages have been read');
kill 'TERM', $other->{pid};
ok(wait_until(sub { worker_log($other) =~ /ends when 1 jobs? in flight/ }), 'it is to end');
let_go('last');
is(end_worker($other), 0, 'ended in order') or diag worker_log($other);
is(job_state($node, $job), 'done 1', 'and the document is whole');

# rows that are locked when a document ends, that cannot be written, that change; one page at a time
sql($node, <<'END');
CREATE TABLE paper (id int PRIMARY KEY, image bytea, body text);
CREATE FUNCTION check_row() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN IF NEW.id = 2 THEN RAISE 'not this row'; END IF; RETURN NEW; END$$;
CREATE TRIGGER check_row BEFORE UPDATE OF body ON paper FOR EACH ROW EXECUTE FUNCTION check_row();
SELECT dsocr_attach('paper', 'image', text_column => 'body');
END
sql($node, 'INSERT INTO paper SELECT g, ' . pdf('pages=3;sleep=0.1') . ' FROM generate_series(1, 4) AS g');
my $session = begin_sql($node, 'BEGIN; SELECT id FROM paper WHERE id = 3 FOR UPDATE; SELECT pg_sleep(4); COMMIT');
ok(wait_until(sub { sql($node, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) eq '1' }), 'a row is locked');
$worker = start_worker($node, $conninfo, @stub, '--in-flight', 1);
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.failures WHERE source IS NOT NULL') eq '1' }, 60), 'a row cannot be written');
end_sql($session);
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM paper WHERE body IS NOT NULL') eq '3' }, 60), 'the others are');
is(sql($node, 'SELECT reason || attempts FROM dsocr.failures WHERE source IS NOT NULL'), 'not this row2', 'after all attempts, and why');
sql($node, 'UPDATE paper SET image = ' . pdf(held('changed')) . ' WHERE id = 1');
ok(is_read('changed'), 'another document is read');
sql($node, 'UPDATE paper SET image = ' . pdf('pages=2;each=text=new #') . ' WHERE id = 1');
let_go('changed');
ok(wait_until(sub { sql($node, 'SELECT body FROM paper WHERE id = 1') =~ /^new 1.*new 2$/s }, 60), 'the newest wins') or diag sql($node, 'SELECT body FROM paper WHERE id = 1');
is(sql($node, q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM paper WHERE body = '} . text_of(3) . q{'}), '3 4', 'the others have their own');
is(end_worker($worker, 'TERM'), 0, 'ended in order') or diag worker_log($worker);

# who cannot open documents leaves them alone: no program, one that does not work, none wanted
for my $case ([ '/nowhere/pages', qr/there is no page server/ ], [ '/bin/false', qr/cannot run the page server/ ], [ '', qr/joined/ ])
{
	$worker = start_worker($node, $conninfo, '--pages', $case->[0]);
	$job = job('pages=2');
	my $image = sql($node, 'SELECT dsocr_enqueue(' . image('text=image') . ')');
	is(job_end($node, $image), 'done 1', "images are read with the page server '$case->[0]'");
	is(job_state($node, $job), 'queued 0', 'documents are not');
	like(worker_log($worker), $case->[1], 'and the log tells');
	is(end_worker($worker, 'TERM'), 0, 'ended');
	sql($node, "SELECT dsocr_cancel($job)");
}
sql($node, 'REVOKE EXECUTE ON FUNCTION dsocr_worker_pages FROM dsocr_remote');
$worker = start_worker($node, $conninfo, @stub);
is(end_worker($worker), 3, 'turned away without the right to answer for pages');
like(worker_log($worker), qr/permission denied for function dsocr_worker_pages/, 'and why');
sql($node, 'GRANT EXECUTE ON FUNCTION dsocr_worker_pages TO dsocr_remote');

# what a worker says of pages is checked
my $release = sql($node, q{SELECT extversion FROM pg_extension WHERE extname = 'dsocr'});
$job = sql($node, 'SELECT dsocr_enqueue(' . pdf('pages=9') . q{, pages => '[2,4]')});
sub session
{
	my ($script, %option) = @_;
	my $begin = "SELECT dsocr_worker_begin(2, '$release', 'print', 'model', true) > 0;\nSELECT count(*) FROM dsocr_worker_claim(5, 0);\n";
	my ($rc, $out, $err) = $node->psql('postgres', $begin . $script, extra_params => [ '-U', 'dsocr_remote' ], on_error_stop => 0);
	return "$out\n$err";
}
sub frame { my ($id, $body) = @_; return unpack 'H*', pack('L<S<S<Q<Q<', 0x52434f44, 2, 4, $id, length $body) . $body; }
sub failed_page { my ($id) = @_; return frame($id, pack('L<', 1) . pack('L<', 4) . 'torn' . pack('L<', 0)); }
sub end_frame
{
	my ($id, $pages) = @_;
	# status, finish, mode, width, height, rotation, skew, pages; all else 0
	return frame($id, pack('L<3', 0, 0, 0) . pack('L<l<6', 0, 0, 0, 0, 0, 0, $pages) . "\0" x (4 * 7) . "\0" x 16 . "\0" x 4 . "\0" x 40 . "\0" x 12 . "\0" x 8 . "\0" x 4 . "\0" x 8);
}
sub pages { my ($first, @frames) = @_; return "SELECT dsocr_worker_pages($job, $first, decode('" . join('', @frames) . "', 'hex'));\n"; }
sub finish { my ($frame) = @_; return "SELECT dsocr_worker_finish($job, decode('$frame', 'hex'));\n"; }
my $page = failed_page($job);
my $malformed = qr/the worker's answer is malformed/;
like(session('SELECT 7'), qr/^t\n1\n7$/m, 'claimed');
for my $lie ([ 'not the first that was asked for', pages(1, $page) ], [ 'one left out', pages(3, $page) ], [ 'below 1', pages(-2147483648, $page) ],
	[ 'one twice', pages(2, $page) . pages(2, $page) ], [ 'more than were asked for', pages(2, $page, $page, $page, $page) ],
	[ 'nothing', pages(2) ], [ 'half a frame', pages(2, substr $page, 0, 60) ], [ 'rubbish', pages(2, '00' x 1000) ],
	[ 'of another job', pages(2, failed_page($job + 1)) ], [ 'a length that lies', pages(2, unpack 'H*', pack 'L<S<S<Q<Q<', 0x52434f44, 2, 4, $job, 1 << 40) ],
	[ 'an end without pages', finish(end_frame($job, 9)) ], [ 'too few of them', pages(2, $page, $page) . finish(end_frame($job, 9)) ],
	[ 'too many of them', pages(2, $page, $page, $page) . finish(end_frame($job, 3)) ], [ 'a document of no pages', pages(2, $page, $page, $page) . finish(end_frame($job, 0)) ],
	[ 'of more than a document may have', pages(2, $page, $page, $page) . finish(end_frame($job, 2147483647)) ],
	[ 'of less than none', pages(2, $page, $page, $page) . finish(end_frame($job, -5)) ])
{
	like(session($lie->[1]), $malformed, "refused: $lie->[0]");
	is(job_state($node, $job), 'queued 0', 'and nothing has happened');
}
like(session(pages(2, $page) =~ s/worker_pages\(\d+/worker_pages(${\($job + 1)}/r), qr/not claimed by this session/, 'pages of a job of others');
my $image = sql($node, 'SELECT dsocr_enqueue(' . image('text=x') . ')');
like(session("SELECT dsocr_worker_pages($image, 1, decode('" . failed_page($image) . "', 'hex'))"), $malformed, 'pages of an image');
sql($node, "SELECT dsocr_cancel($image)");

# a transaction that is rolled back has ended nothing, and what is said after an error counts
my $three = pages(2, $page, $page, $page);
session("BEGIN; $three " . finish(end_frame($job, 9)) . 'ROLLBACK;');
is(job_state($node, $job), 'queued 0', 'an end that is rolled back is none');
like(session(pages(2, $page) . pages(7, $page) . pages(3, $page, $page) . finish(end_frame($job, 4))), qr/^t$/m, 'pages in two parts');
is(job_state($node, $job), 'failed 1 22P03', 'all of them could not be read') or diag job_state($node, $job);
is(claims($node), '0', 'no claim is left') if wait_until(sub { claims($node) eq '0' });

# more than a session may hold
$job = sql($node, 'SELECT dsocr_enqueue(' . pdf('pages=9') . ')');
my $script = 'SELECT dsocr_worker_pages(' . $job . q{, 1, convert_to(repeat('x', 70000000), 'UTF8'));};
like(session($script), $malformed, 'more than may come at once');
unlike(log_of($node), qr/PANIC|TRAP|signal 11/, 'nothing in the log');
$node->stop;
done_testing();
