# Hostile objects at CREATE EXTENSION and at call time: none is captured.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;

my $node = new_server('search_path');
my $body = q{LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO public.trap VALUES ('captured'); RETURN NULL; END $f$};

sql($node, 'DROP EXTENSION dsocr; CREATE DATABASE clean');
sql($node, 'CREATE TABLE trap (what text); CREATE ROLE mallory LOGIN; GRANT ALL ON SCHEMA public TO mallory; GRANT ALL ON trap TO mallory;
	CREATE SCHEMA mine AUTHORIZATION mallory', db => 'clean');

# Objects that a name of the script, or of a view, could mean.  %s is the schema.
my %hostile;
for my $op ('<>', '=', '||', '<', '>')
{
	for my $type (qw(text name oid unknown_text))
	{
		my ($left, $right) = $type eq 'unknown_text' ? ('text', 'name') : ($type, $type);
		next if $op eq '||' && $type ne 'text';
		$hostile{"operator $op ($left, $right)"} =
		  "CREATE FUNCTION %s.f($left, $right) RETURNS bool $body; CREATE OPERATOR %s.$op (LEFTARG = $left, RIGHTARG = $right, FUNCTION = %s.f)";
	}
}
$hostile{"type $_"} = "CREATE TYPE %s.$_ AS ENUM ('captured')"
  for qw(text bytea jsonb int4 int4range float8 int8 box record void oid timestamptz interval);
$hostile{"table $_"} = "CREATE TABLE %s.$_ (oid oid, datname text)" for qw(pg_database pg_extension pg_proc);
$hostile{"function $_->[0]"} = "CREATE FUNCTION %s.$_->[0]($_->[1]) RETURNS text $body"
  for ['pg_get_userbyid', 'oid'], ['length', 'text'], ['box', 'point, point'], ['oideq', 'oid, oid'],
  ['texteq', 'text, text'], ['textne', 'text, text'], ['format', 'text'];
$hostile{'cast to dsocr_mode'} = "CREATE TYPE %s.dsocr_modes AS ENUM ('base')";
cmp_ok(scalar keys %hostile, '>=', 30, 'enough variations');

# Everything that PUBLIC may do, with a search_path that prefers the hostile schema.
my $calls = q{
	SELECT %1$sdsocr_text('STUB:text=abc'), %1$sdsocr_markdown('STUB:text=abc'), %1$sdsocr_figure('STUB:text=abc'),
		%1$sdsocr_describe('STUB:text=abc'), %1$sdsocr_generate('STUB:text=abc', 'p', mode => 'base'),
		(%1$sdsocr_read('STUB:text=abc')).raw, (%1$sdsocr_try('')).error;
	SELECT pg_catalog.count(*) FROM %1$sdsocr_blocks('STUB:text=<|ref|>a<|/ref|><|det|>[[1,2,3,4]]<|/det|>');
	SELECT pg_catalog.count(*) FROM %1$sdsocr_locate('STUB:text=<|ref|>a<|/ref|><|det|>[[1,2,3,4]]<|/det|>', 'x');
	SELECT %1$sdsocr_layout('STUB:text=abc') IS NULL;
	SELECT grid FROM %1$sdsocr_tokens(10, 10);
	SELECT pg_catalog.count(*) FROM dsocr.workers; SELECT pg_catalog.count(*) FROM dsocr.requests;
	SELECT device FROM dsocr.stats LIMIT 1; SELECT slots FROM %1$sdsocr_status();
	SELECT pg_catalog.count(*) FROM dsocr.jobs; SELECT pg_catalog.count(*) FROM dsocr.failures; SELECT pg_catalog.count(*) FROM dsocr.progress;
	BEGIN; CREATE TABLE attached_one (id pg_catalog.int4 PRIMARY KEY, image pg_catalog.bytea);
	SELECT %1$sdsocr_attach('attached_one', 'image', 'body', layout_column => 'layout', tsvector_column => 'tsv', side_table => 'attached_pages');
	INSERT INTO attached_one VALUES (1, 'STUB:text=abc');
	SELECT %1$sdsocr_cancel(%1$sdsocr_enqueue('STUB:text=abc', mode => 'base')), %1$sdsocr_retry(), %1$sdsocr_detach('attached_one', 'image', keep => false); ROLLBACK};
my $answer = join "\n", 'abc|abc|abc|abc|abc|abc|document is empty', 1, 1, 'f', '1x1', 1, 0, 'cpu', 64, 0, 0, 0, '', 't|0|t';

# What the objects of the extension are made of, names and types fully spelled.
my $fingerprint = q{SET search_path = '';
	SELECT pg_catalog.md5(pg_catalog.string_agg(d, ';' ORDER BY d COLLATE pg_catalog."C")) FROM (
		SELECT pg_catalog.pg_get_functiondef(objid) AS d FROM pg_catalog.pg_depend WHERE deptype = 'e' AND classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
			AND refobjid = (SELECT oid FROM pg_catalog.pg_extension WHERE extname = 'dsocr')
		UNION ALL SELECT pg_catalog.pg_get_viewdef(objid) FROM pg_catalog.pg_depend WHERE deptype = 'e' AND classid = 'pg_catalog.pg_class'::pg_catalog.regclass
			AND refobjid = (SELECT oid FROM pg_catalog.pg_extension WHERE extname = 'dsocr') AND objid IN (SELECT oid FROM pg_catalog.pg_class WHERE relkind = 'v')
		UNION ALL SELECT attname || pg_catalog.format_type(atttypid, -1) FROM pg_catalog.pg_attribute
			WHERE attrelid = (SELECT typrelid FROM pg_catalog.pg_type WHERE typname = 'dsocr_result')) s};
sql($node, 'CREATE EXTENSION dsocr', db => 'clean');
my $expected = sql($node, $fingerprint, db => 'clean');
is(sql($node, sprintf($calls, 'public.'), db => 'clean'), $answer, 'without hostile objects');
sql($node, 'DROP EXTENSION dsocr', db => 'clean');

for my $name (sort keys %hostile)
{
	for my $schema ('public', 'pg_temp')
	{
		(my $create = $hostile{$name}) =~ s/%s/$schema/g;
		next if $schema eq 'pg_temp' && $name =~ /^operator/;	# never found in pg_temp

		# installed by a superuser whose session has the objects
		my ($out, $err) = try_sql($node, "$create; SET search_path = $schema, public, pg_catalog;
			CREATE EXTENSION dsocr SCHEMA public; " . sprintf($calls, 'public.'), db => 'clean');
		is($out, $answer, "$schema: $name at install") or diag($err);
		is(sql($node, $fingerprint, db => 'clean'), $expected, "$schema: $name: same objects");
		is(sql($node, 'SELECT pg_catalog.count(*) FROM public.trap', db => 'clean'), '0', "$schema: $name: trap is empty");
		sql($node, q{DROP EXTENSION dsocr; SET client_min_messages = error;
			DO $$ DECLARE c pg_catalog.text; BEGIN FOR c IN
				SELECT 'DROP FUNCTION ' || p.oid::regprocedure || ' CASCADE' FROM pg_proc p WHERE pronamespace = 'public'::regnamespace
				UNION ALL SELECT 'DROP TYPE ' || t.oid::regtype FROM pg_type t WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'
				UNION ALL SELECT 'DROP TABLE ' || c.oid::regclass FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'trap'
				LOOP EXECUTE c; END LOOP; END $$}, db => 'clean');
	}
}

# Objects that are in the way are never taken over.
my %in_the_way = (
	'function' => 'CREATE FUNCTION public.dsocr_text(bytea, int4, int4range, int4, int4) RETURNS text LANGUAGE sql AS $$SELECT NULL::text$$',
	'same function' => 'CREATE TYPE public.dsocr_mode AS ENUM (\'auto\'); CREATE FUNCTION public.dsocr_text(bytea, public.dsocr_mode, int4range, int4, int4) RETURNS text LANGUAGE sql AS $$SELECT NULL::text$$',
	'no arguments' => 'CREATE FUNCTION public.dsocr_reload() RETURNS int4 LANGUAGE sql AS $$SELECT 1$$',
	'type' => 'CREATE TYPE public.dsocr_result AS (x int4)',
	'schema' => 'CREATE SCHEMA dsocr',
	'table for view' => 'CREATE SCHEMA dsocr; CREATE TABLE dsocr.workers (x int4)');
for my $name (sort keys %in_the_way)
{
	my ($out, $err) = try_sql($node, "BEGIN; SET ROLE mallory; RESET ROLE; $in_the_way{$name}; CREATE EXTENSION dsocr SCHEMA public", db => 'clean');
	if ($name eq 'function')
	{
		is($err, '', 'a function of other arguments is not in the way');
	}
	else
	{
		like($err, qr/ERROR:  .*already exists/, "in the way: $name");
	}
}

# Call time: a role fills its schema with look-alikes and puts it first.
sql($node, 'CREATE EXTENSION dsocr SCHEMA public', db => 'clean');
my $look_alikes = join '; ', map { (my $c = $hostile{$_}) =~ s/%s/mine/g; $c =~ s/\bf\(/sprintf('f%d(', ++$main::n)/e; $c =~ s/mine\.f\)/"mine.f$main::n)"/e; $c }
  grep { !/cast/ } sort keys %hostile;
my ($out, $err) = try_sql($node, $look_alikes, db => 'clean', user => 'mallory');
is($err, '', 'look-alikes were made');
is(sql($node, "SET search_path = mine, pg_catalog, public; " . sprintf($calls, 'public.'), db => 'clean'), $answer, 'a path with look-alikes first');
is(sql($node, 'SELECT count(*) FROM public.trap', db => 'clean'), '0', 'trap is empty');
$node->stop;
done_testing();
