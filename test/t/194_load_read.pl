# Loading a folder into an attached table, and waiting until it is read.
use strict;
use warnings;

use Dsocr;
use DsocrLoad;
use DsocrSql;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my $node = new_server('load_read', conf => "dsocr.max_attempts = 1\nmax_connections = 30");
plan(skip_all => 'built without libpq') unless can_load();
my $dir = PostgreSQL::Test::Utils::tempdir_short() . '/in';
put($dir, "$_.png", document("sleep=2;text=page $_")) for 10 .. 39;
put($dir, 'bad "one".png', document('error=1:torn in two'));

# made, attached and waited for
my ($rc, $out, $err) = load_files($node, '--table', 'scan', '--create', '--attach', '--language', 'english', '--lines', 1, $dir);
is($rc, 1, 'one of them could not be read');
is($out, "loaded 31 files, 0.0 MB; 0 were there, 0 skipped, 0 failed\nread 30 documents, 30 pages; 1 failed\n", 'loaded and read');
like($err, qr/failed: "bad "one"\.png": torn in two/, 'which one, by its path') or diag $err;
like($err, qr{^dsocr-engine: reading \d+ %: \d+/31\+? documents, \d+ pages, [\d.]+/s, .* left, \d failed$}m, 'meanwhile, lines');
unlike($err, qr/[\r\e]/, 'without signs for terminals');
is(sql($node, q{SELECT string_agg(text, ',' ORDER BY path COLLATE "C") FROM scan JOIN scan_pages USING (id)}), join(',', map { "page $_" } 10 .. 39), 'the texts are in the side table');
is(sql($node, q{SELECT key ->> 'id' = (SELECT id::text FROM scan WHERE path = '17.png') FROM dsocr_search('scan', '17')}), 't', 'and found');

# again: old failures are not those of this load
put($dir, 'new.png', document('text=new'));
($rc, $out, $err) = load_files($node, '--table', 'scan', '--attach', $dir);
is("$rc $out", "0 loaded 1 files, 0.0 MB; 31 were there, 0 skipped, 0 failed\nread 1 documents, 1 pages; 0 failed\n", 'an attached table stays attached');

# into columns, without waiting
($rc, $out) = load_files($node, '--table', 'flat', '--create', '--attach', '--text-column', 'body', '--no-wait', $dir);
like("$rc $out", qr/^0 loaded 32 files[^\n]*\n$/, 'does not wait on demand');
is(sql($node, q{SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'flat'::regclass AND attnum > 0}), 'id path image body body_words', 'columns for texts and words');
ok(wait_until(sub { sql($node, q{SELECT queued FROM dsocr.progress WHERE source = 'flat'::regclass}) eq '0' }, 60), 'it is read all the same');

# rows that were there before the table is attached are read, too
load_files($node, '--table', 'older', '--create', $dir);
($rc, $out) = load_files($node, '--table', 'older', '--attach', '--side-table', 'texts', '--prefix', 'x', "$dir/new.png");
like("$rc $out", qr/^1 loaded 1 files.*read 32 documents, 32 pages; 1 failed/s, 'rows from before are waited for');
is(sql($node, 'SELECT count(*) FROM texts WHERE text IS NOT NULL'), '32', 'and read');

# on a terminal: a bar that moves
my $command = join ' ', 'dsocr-engine', 'load', '--dbname', "'" . $node->connstr('postgres') =~ s/'/'\\''/gr . "'", '--table', 'seen', '--create', '--attach', $dir;
my $seen = '';
IPC::Run::run([ 'script', '-qec', "stty cols 100; TERM=xterm $command", '/dev/null' ], '<', \undef, '>', \$seen);
like($seen, qr{reading \[#*\.*\] +\d+ %  \d+/32\+? documents, \d+ pages, }, 'a bar');
like($seen, qr/\e\[K/, 'that is drawn again');
like($seen, qr/read 31 documents, 31 pages; 1 failed\s*$/, 'and a sum in the end') or diag $seen;
cmp_ok((sort { $b <=> $a } map { length } $seen =~ /(reading \[[^\r\n\e]*)/g)[0], '<', 100, 'no line is longer than the terminal');

# interrupted while it waits: the server reads on
put($dir, 'slow.png', document('sleep=3;text=slow'));
my $load = begin_load($node, '--table', 'scan', '--lines', 1, $dir);
ok(wait_until(sub { load_log($load) =~ /^loaded 1 files/m }, 30), 'loaded');
kill_load($load, 'INT');
is(end_load($load), 130, 'does not wait any longer');
like(load_log($load), qr/the others are read without us/, 'and says so');
ok(wait_until(sub { sql($node, q{SELECT count(*) FROM scan_pages WHERE text = 'slow'}) eq '1' }, 30), 'it was read');

# nobody reads
sql($node, 'ALTER SYSTEM SET dsocr.run_jobs = off');
sql($node, 'SELECT pg_reload_conf()');
ok(wait_until(sub { sql($node, 'SHOW dsocr.run_jobs') eq 'off' }), 'switched off');
put($dir, 'idle.png', document('text=idle'));
($rc, $out, $err) = load_files($node, '--table', 'scan', $dir);
like("$rc $err", qr/^0 .*documents are queued, but dsocr.run_jobs is off/s, 'it does not wait for what will not come');

# the line of psql that docs/loading.md gives
my $docs = slurp_file("$ENV{DSOCR_TOP}/docs/loading.md");
my ($line) = $docs =~ /^echo '(SELECT [^']*FROM dsocr\.progress) \\watch 2' \| psql$/m;
ok($line, 'there is one') and like(sql($node, $line), qr/^scan\|\d+\|1\|1\|/m, 'and it works');
$node->stop;
done_testing();
