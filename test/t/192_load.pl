# Loading a folder: what becomes a row, what does not and why, into which tables.
use strict;
use warnings;

use Dsocr;
use DsocrLoad;
use DsocrSql;
use IO::Socket::UNIX;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my $node = new_server('load', conf => "dsocr.run_jobs = off\ndsocr.max_image_bytes = 1MB\ndsocr.max_document_bytes = 2MB");
plan(skip_all => 'built without libpq') unless can_load();
my $base = PostgreSQL::Test::Utils::tempdir_short();
my $dir = "$base/in";

my @good = ('a.png', 'B.png', 'below/c.png', 'below/deep/d.png', q{it's "quoted" \\ $1.png}, "new\nline.png", '-option.png', '{a,b}.png', 'NULL', ' ', 'ü.png');
put($dir, $_, document("text=$_")) for @good;
put($dir, 'letter.pdf', '%PDF-1.4');
put($dir, 'large.tif', "II*\0" . 'x' x 2_000_000);
put($dir, 'notes.txt', 'nothing to see');
put($dir, 'old.gif', 'GIF89a');
put($dir, 'empty.png', '');
put($dir, "not\xff.png", document('text=x'));
put($dir, 'huge.png', document('x' x 3_000_000));
chmod 0, put($dir, 'secret.png', document('text=x'));
chmod 0, (put($dir, 'closed/x.png', document('text=x')) =~ s{/x.png$}{}r);
symlink 'a.png', "$dir/link.png";
symlink '..', "$dir/below/up";
symlink '/nowhere', "$dir/dangling.png";
POSIX::mkfifo("$dir/pipe.png", 0600);
my $socket = IO::Socket::UNIX->new(Local => "$base/s", Listen => 1);
rename "$base/s", "$dir/socket.png";

my $paths = q{SELECT string_agg(path, '|' ORDER BY path COLLATE "C") FROM };
my $expected = join '|', sort @good, 'letter.pdf', 'large.tif';
my $created = sql($node, q{CREATE SCHEMA "My"; SET search_path = "My"; SELECT 'made'});
my ($rc, $out, $err) = load_files($node, '--table', '"My"."Scans 1"', '--create', $dir);
is($rc, 1, 'some could not be loaded');
like($out, qr/^loaded 13 files, 2\.0 MB; 0 were there, 8 skipped, 4 failed$/m, 'counted');
like($err, qr{failed: "$dir/\Q$$_[0]\E": $$_[1]}, "$$_[0] is reported")
  for [ 'closed', 'Permission denied' ], [ 'secret.png', 'Permission denied' ], [ 'not?.png', 'the database cannot have its name' ],
  [ 'huge.png', 'it has 3000016 bytes, the limit is 2097152' ];
like($err, qr{skipped: "$dir/\Q$$_[0]\E": $$_[1]}, "$$_[0] is passed over")
  for [ 'notes.txt', 'no image and no PDF' ], [ 'old.gif', 'GIF cannot be read' ], [ 'empty.png', 'empty' ], [ 'link.png', 'a symbolic link' ],
  [ 'below/up', 'a symbolic link' ], [ 'dangling.png', 'a symbolic link' ], [ 'pipe.png', 'no regular file' ], [ 'socket.png', 'no regular file' ];
is(sql($node, "$paths " . '"My"."Scans 1"') =~ s/\n/\n/r, $expected, 'paths, whatever they are');
is(sql($node, q{SELECT count(*) FROM "My"."Scans 1" WHERE path <> 'letter.pdf' AND path <> 'large.tif' AND image <> convert_to(E'P5\n8 8\n255\nSTUB:text=' || path, 'UTF8')}), '0', 'and their bytes');
is(sql($node, q{SELECT sha256(image) = sha256('\\x49492a00'::bytea || convert_to(repeat('x', 2000000), 'UTF8')) FROM "My"."Scans 1" WHERE path = 'large.tif'}), 't', 'large ones, too');

# again: nothing is loaded twice; what came is
chmod 0644, "$dir/secret.png";
chmod 0755, "$dir/closed";
chmod 0644, "$dir/closed/x.png";
unlink "$dir/huge.png", "$dir/not\xff.png";
put($dir, 'later.png', document('text=later'));
($rc, $out, $err) = load_files($node, '--table', '"My"."Scans 1"', '--create', "$dir///");
is("$rc $out", "0 loaded 3 files, 0.0 MB; 13 were there, 8 skipped, 0 failed\n", 'what was there is passed over');
($rc, $out) = load_files($node, '--table', '"My"."Scans 1"', '--prefix', 'two/', '--follow', $dir);
like($out, qr/^loaded 17 files, .*; 0 were there, 7 skipped, 0 failed/, 'with another prefix they are others; links are followed');
is(sql($node, q{SELECT count(*) FROM "My"."Scans 1" WHERE path = 'two/link.png'}), '1', 'to files');
($rc, $out) = load_files($node, '--table', '"My"."Scans 1"', "$dir/a.png");
like($out, qr/^loaded 0 files, 0.0 MB; 1 were there/, 'one file, by its name');
($rc, $out) = load_files($node, '--table', '"My"."Scans 1"', '--any', "$dir/notes.txt");
like($out, qr/^loaded 1 files/, 'what is no image, on demand');

# tables that are there, of all kinds
my @rest = ('--batch-rows', 4, $dir);
sub into
{
	my ($table, $definition, $status, $loaded, $name, @options) = @_;
	sql($node, $definition);
	my ($rc, $out, $err) = load_files($node, '--table', $table, @options, @rest);
	is($rc, $status, "$name: status");
	like("$out$err", $loaded, $name);
	return;
}
into('plain', 'CREATE TABLE plain (path varchar(200), image bytea)', 0, qr/loaded 16 files.*column "path" has no unique index/s, 'no index');
into('plain', 'SELECT 1', 0, qr/loaded 0 files, 0.0 MB; 16 were there/, 'no index, again');
into('named', 'CREATE TABLE named ("The path" text UNIQUE, "the ""scan""" bytea)', 0, qr/loaded 16 files/, 'other columns', '--path-column', 'The path', '--image-column', 'the "scan"');
into('parts', 'CREATE TABLE parts (path text PRIMARY KEY, image bytea) PARTITION BY HASH (path); CREATE TABLE part PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0)', 0, qr/loaded 16 files/, 'partitions');
into('few', q{CREATE TABLE few (path text PRIMARY KEY CHECK (path !~ 'png$'), image bytea)}, 1, qr/loaded 4 files, 2.0 MB; 0 were there, 8 skipped, 12 failed/, 'rows that are refused');
into('late', q{CREATE TABLE late (path text PRIMARY KEY, image bytea, n int GENERATED ALWAYS AS (CASE WHEN path = 'B.png' THEN 1 END) STORED REFERENCES few2 DEFERRABLE INITIALLY DEFERRED)} =~ s/^/CREATE TABLE few2 (n int PRIMARY KEY); /r, 1,
	qr/failed: ".*B.png": insert or update on table "late" violates foreign key.*loaded 15 files|loaded 15 files.*1 failed/s, 'refused by the commit');
into('strict', 'CREATE TABLE strict (path text, image bytea, who text NOT NULL)', 1, qr/loaded 0 files.*16 failed/, 'every row refused');
put($dir, "more/$_", document('text=x')) for 1 .. 30;
into('strict', 'SELECT 1', 3, qr/20 rows in a row were refused/, 'it ends when it is not the rows');
into('narrow', 'CREATE TABLE narrow (path text)', 3, qr/table public.narrow has no columns "path" and "image"/, 'no such column');
into('nowhere', 'SELECT 1', 3, qr/table nowhere does not exist; --create makes it/, 'no such table');
into('a.b.c.d', 'SELECT 1', 3, qr/improper relation name/, 'no name', '--create');
into('"; DROP TABLE plain; --', 'SELECT 1', 3, qr/invalid name syntax/, 'no name either');

# rights, policies, hostile neighbours
sql($node, q{CREATE ROLE clerk LOGIN; CREATE TABLE guarded (path text PRIMARY KEY, image bytea, owner name DEFAULT current_user);
	GRANT INSERT (path, image), SELECT (path) ON guarded TO clerk; CREATE TABLE forbidden (path text PRIMARY KEY, image bytea);
	ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON guarded USING (owner = current_user);
	CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO clerk;
	CREATE FUNCTION evil.same(text, text) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'called'; END$$;
	CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = text, RIGHTARG = text);
	CREATE FUNCTION evil.array_position(text[], text) RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE 'called'; END$$;
	CREATE FUNCTION evil.quote_ident(text) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'called'; END$$});
my @clerk = ('--dbname', $node->connstr('postgres') . " user=clerk options='-c search_path=evil,pg_catalog,public'");
($rc, $out, $err) = load_files($node, @clerk, '--table', 'guarded', $dir);
is("$rc $out", "0 loaded 46 files, 2.0 MB; 0 were there, 8 skipped, 0 failed\n", 'columns are enough, policies hold, and nobody is called') or diag $err;
($rc, $out, $err) = load_files($node, @clerk, '--table', 'forbidden', $dir);
is($rc, 3, 'no rights');
like($err, qr/permission denied for table forbidden/, 'is an error of the database');

# a database that has not all letters
$node->safe_psql('postgres', q{CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'});
put($dir, '文字.png', document('text=x'));
($rc, $out, $err) = load_files($node, '--dbname', $node->connstr('latin'), '--table', 'scan', '--create', $dir);
like("$rc $out", qr/^1 loaded 46 files.*1 failed/, 'one name cannot be written there, without the extension');
($rc, $out, $err) = load_files($node, '--dbname', $node->connstr('latin'), '--table', 'scan', '--attach', $dir);
like("$rc $err", qr/^3 .*the extension dsocr is not in this database/s, 'nor can it be attached');

# wrong usage, no server
for ([], [$dir], [ '--table', 'x' ], [ '--table', 'x', $dir, $dir ], [ '--table', 'x', '--batch-rows', '0', $dir ], [ '--table', 'x', '--nothing', $dir ],
	[ '--table', 'x', '--language', 'english', $dir ])
{
	($rc, $out, $err) = load_files($node, @$_);
	like("$rc $err", qr/^2 .*usage: dsocr-engine load/s, "usage: @$_");
}
($rc, $out, $err) = load_files($node, '--table', 'x', "$base/gone");
like("$rc $err", qr/^2 .*gone": No such file/s, 'no such folder');
($rc, $out, $err) = load_files($node, '--dbname', "host=$base port=1", '--table', 'x', $dir);
like("$rc $err", qr/^3 .*could not connect/s, 'no server');
$node->stop;
done_testing();
