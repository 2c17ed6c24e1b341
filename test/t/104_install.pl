# Schemas, upgrade scripts, dump and restore, a server without preloading.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Utils;
use Dsocr;
use DsocrSql;

my $node = new_server('install');
my $objects = q{SELECT string_agg(pg_describe_object(classid, objid, 0), E'\n' ORDER BY 1)
	FROM (SELECT classid, objid FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
		AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'dsocr') ORDER BY 1, 2) s};
my $reads = q{SELECT %1$sdsocr_text('STUB:text=abc'), (SELECT count(*) FROM dsocr.workers)};

# any schema, the one of the views included
for my $schema ('app', '"Odd name"', 'dsocr')
{
	sql($node, 'CREATE DATABASE place');
	sql($node, "CREATE SCHEMA $schema; CREATE EXTENSION dsocr SCHEMA $schema", db => 'place');
	is(sql($node, sprintf($reads, "$schema."), db => 'place'), 'abc|1', "installed in schema $schema");
	my ($out, $err) = try_sql($node, "ALTER EXTENSION dsocr SET SCHEMA public", db => 'place');
	like($err, qr/does not support SET SCHEMA/, "and stays there");
	sql($node, 'DROP EXTENSION dsocr', db => 'place');
	is(sql($node, "SELECT count(*) FROM pg_proc WHERE proname ~ '^dsocr_'", db => 'place'), '0', 'no function is left');
	is(sql($node, "SELECT count(*) FROM pg_namespace WHERE nspname = 'dsocr'", db => 'place'),
		$schema eq 'dsocr' ? '1' : '0', 'its schema went, the one of the user stays');
	sql($node, 'DROP DATABASE place');
}

# not for everybody
sql($node, 'CREATE ROLE app LOGIN; CREATE DATABASE owned OWNER app');
my ($out, $err) = try_sql($node, 'CREATE EXTENSION dsocr', db => 'owned', user => 'app');
like($err, qr/permission denied to create extension/, 'a database owner cannot install it');
($out, $err) = try_sql($node, q{CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'dsocr', 'dsocr_reload'}, db => 'owned', user => 'app');
like($err, qr/permission denied for language c/, 'nor make functions of its own');

# every version on the way to the newest gives the objects that a fresh install gives
my $newest = sql($node, "SELECT default_version FROM pg_available_extensions WHERE name = 'dsocr'");
my $fresh = sql($node, $objects);
isnt($fresh, '', 'objects are known');
for my $version (split /\n/, sql($node, "SELECT version FROM pg_available_extension_versions WHERE name = 'dsocr' ORDER BY version"))
{
	sql($node, 'CREATE DATABASE old');
	($out, $err) = try_sql($node, "CREATE EXTENSION dsocr VERSION '$version'; ALTER EXTENSION dsocr UPDATE", db => 'old');
	unlike($err, qr/ERROR/, "from $version");
	is(sql($node, "SELECT extversion FROM pg_extension WHERE extname = 'dsocr'", db => 'old'), $newest, "$version became $newest");
	is(sql($node, $objects, db => 'old'), $fresh, "$version: same objects");
	is(sql($node, sprintf($reads, ''), db => 'old'), 'abc|1', "$version: reads");
	sql($node, 'DROP DATABASE old');
}
is(sql($node, "SELECT count(*) FROM pg_extension_update_paths('dsocr') WHERE target = '$newest' AND path IS NULL AND source <> '$newest'"),
	'0', "there is a way to $newest from every version");

# dump and restore, with a changed right and a table that uses the types
sql($node, 'CREATE DATABASE before; CREATE DATABASE after');
sql($node, q{CREATE SCHEMA app; CREATE EXTENSION dsocr SCHEMA app; GRANT EXECUTE ON FUNCTION app.dsocr_reload() TO app;
	CREATE TABLE kept AS SELECT app.dsocr_read('STUB:text=abc') AS r, 'base'::app.dsocr_mode AS m;
	CREATE VIEW v AS SELECT app.dsocr_text('STUB:text=def', mode => 'tiny') AS t}, db => 'before');
my $dump = $node->basedir . '/dump.sql';
command_ok([ 'pg_dump', '--no-sync', '-f', $dump, $node->connstr('before') ], 'dump');
command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('after') ], 'restore');
is(sql($node, "SELECT (r).raw, m, t, has_function_privilege('app', 'app.dsocr_reload()', 'EXECUTE'),
	has_function_privilege('app', 'app.dsocr_stats_reset()', 'EXECUTE') FROM kept, v", db => 'after'), 'abc|base|def|t|f', 'all is there');

# a dsocr_result that was changed by hand is refused, not misread
($out, $err) = try_sql($node, "ALTER TYPE app.dsocr_result ADD ATTRIBUTE more int4 CASCADE; SELECT app.dsocr_read('STUB:text=x')", db => 'after');
like($err, qr/type dsocr_result does not fit the installed library/, 'foreign result type');

# nor is a mode that was added by hand
sql($node, "ALTER TYPE app.dsocr_mode ADD VALUE 'huge'", db => 'after');
($out, $err) = try_sql($node, verbose("SELECT app.dsocr_text('STUB:text=x', mode => 'huge')"), db => 'after');
like($err, qr/ERROR:  22023: mode is not known to the installed library/, 'foreign mode');

# without preloading: a clear error, and everything that needs no server memory works
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
my $hint = qr/HINT:  Add the line "shared_preload_libraries = 'dsocr'" to postgresql.conf/;
for my $call ("dsocr_text('STUB:text=x')", "dsocr_try('x')", 'dsocr_tokens(10, 10)', 'dsocr_status()', 'dsocr_reload()', 'dsocr_stats_reset()')
{
	($out, $err) = try_sql($node, verbose "SET dsocr.on_error = 'null'; SELECT $call");
	like($err, qr/ERROR:  55000: dsocr must be loaded via shared_preload_libraries\n$hint/, "not preloaded: $call");
}
($out, $err) = try_sql($node, 'SELECT * FROM dsocr.workers');
like($err, $hint, 'not preloaded: dsocr.workers');
is(sql($node, 'SELECT dsocr_text(NULL) IS NULL'), 't', 'not preloaded: NULL is NULL');
is(sql($node, "SELECT sqlstate FROM dsocr_try('')"), '22P03', 'not preloaded: an empty document is one');
sql($node, 'DROP EXTENSION dsocr CASCADE; CREATE EXTENSION dsocr');
is(sql($node, $objects), $fresh, 'not preloaded: can be dropped and created');
$node->stop;
done_testing();
