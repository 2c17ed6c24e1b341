# Dump and restore of jobs and attached tables, by a superuser and by the owner of the database.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my $node = new_server('dump', conf => 'dsocr.run_jobs = off');
my $dump = $node->basedir . '/dump.sql';

# All jobs that ran are there, and all that did not; everything else too.
sub fill
{
	my ($db, $user) = @_;
	sql($node, q{CREATE TABLE scan (id int PRIMARY KEY, gone int, image bytea, body text);
		ALTER TABLE scan DROP COLUMN gone;
		SELECT dsocr_attach('scan', 'image', 'body', tsvector_column => 'words', side_table => 'scan_pages');
		INSERT INTO scan VALUES (1, 'STUB:text=row one', NULL);
		SELECT dsocr_enqueue('STUB:text=job one');
		SELECT dsocr_enqueue_row('scan', '{"id": 1}', 'image');}, db => $db, user => $user);
	return;
}
my $content = q{SELECT string_agg(id || ' ' || priority || ' ' || owner || ' ' || coalesce(source::text, '-') || ' ' || coalesce(attachment, '-') || ' ' || coalesce(key, '-'), E'\n' ORDER BY id) FROM dsocr.job_queue};

sub check
{
	my ($who, $user) = @_;
	my ($before, $after) = ("before_$who", "after_$who");
	for my $db ($before, $after)
	{
		sql($node, "CREATE DATABASE $db OWNER $user");
		sql($node, 'CREATE EXTENSION dsocr', db => $db);
	}
	sql($node, "GRANT ALL ON SCHEMA public TO $user", db => $_) for $before, $after;
	fill($before, $user);
	my @connect = ('-h', $node->host, '-p', $node->port, '-U', $user);
	command_ok([ 'pg_dump', '--no-sync', @connect, '-f', $dump, $before ], "$who: dump");
	# the comment on the extension belongs to who installed it
	my $errors = '';
	IPC::Run::run([ 'psql', '-Xq', @connect, '-d', $after, '-f', $dump ], '2>', \$errors);
	$errors = join "\n", grep { /ERROR/ && !/must be owner of (extension dsocr|schema public)/ } split /\n/, $errors;
	is($errors, '', "$who: restore");
	is(sql($node, $content, db => $after), sql($node, $content, db => $before), "$who: all jobs are there");
	is(sql($node, "SELECT count(*) FROM dsocr.progress", db => $after, user => $user), '1', "$who: the table is attached");
	my $next = sql($node, "SELECT dsocr_enqueue('STUB:text=next')", db => $after, user => $user);
	cmp_ok($next, '>', sql($node, 'SELECT max(id) FROM dsocr.job_queue', db => $before), "$who: numbers go on");
	return;
}

sql($node, 'CREATE ROLE app LOGIN; CREATE ROLE root LOGIN SUPERUSER; CREATE ROLE other LOGIN');
check('superuser', 'root');
check('owner', 'app');

# nobody queues jobs for others this way
my ($out, $err) = try_sql($node, "INSERT INTO dsocr.job_queue (owner, document) VALUES ('root', 'x')", db => 'after_owner', user => 'app');
like($err, qr/permission denied to queue a job for role "root"/, 'the owner of the database is not everybody');
($out, $err) = try_sql($node, "INSERT INTO dsocr.job_queue (owner, document) VALUES ('other', 'x')", db => 'after_owner', user => 'other');
like($err, qr/permission denied for table job_queue/, 'others are nobody');

# they run where they are now
sql($node, 'ALTER SYSTEM SET dsocr.run_jobs = on');
sql($node, 'SELECT pg_reload_conf()');
for my $db ('after_superuser', 'after_owner')
{
	ok(wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.job_queue', db => $db) eq '0' }, 60), "$db: ran");
	is(sql($node, 'SELECT count(*) FROM dsocr.failures', db => $db), '0', "$db: none failed");
	is(sql($node, 'SELECT id, body, words FROM scan', db => $db), "1|row one|'one':2 'row':1", "$db: the row has its text");
	is(sql($node, 'SELECT page, text FROM scan_pages', db => $db), '1|row one', "$db: and its page");
}

# data that is loaded later, into a table that is attached, is queued unless it brings its text
sql($node, "INSERT INTO scan VALUES (2, 'STUB:text=row two', 'known'), (3, 'STUB:text=row three', NULL)", db => 'after_owner', user => 'app');
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM scan WHERE body IS NULL', db => 'after_owner') eq '0' }, 30), 'loaded data is read');
is(sql($node, 'SELECT body FROM scan WHERE id = 2', db => 'after_owner'), 'known', 'what is known is not');
$node->stop;
done_testing();
