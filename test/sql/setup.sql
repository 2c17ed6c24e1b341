-- The extension, and pages to read.
CREATE EXTENSION dsocr;
CREATE TABLE page (name text PRIMARY KEY, image bytea);
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set file :abs_srcdir '/sql/pages.inc'
\i :file
\set ECHO all
SELECT name, length(image) > 0 AS filled FROM page ORDER BY name COLLATE "C";

-- What all functions have in common: a comment, and what the planner must know.
SELECT p.oid::regprocedure AS wrong
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
	AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'dsocr'
WHERE obj_description(p.oid, 'pg_proc') IS NULL
	OR p.proargnames IS NULL AND p.pronargs > 0
	OR p.proname ~ '^dsocr_(markdown|text|layout|blocks|figure|describe|locate|generate|read|try)$'
		AND (p.procost < 100000 OR p.provolatile <> 's' OR p.proparallel <> 's')
	OR p.prosecdef;

-- Every other object of the extension has a comment too.
SELECT pg_describe_object(d.classid, d.objid, 0) AS without_comment
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'dsocr'
WHERE d.deptype = 'e' AND d.classid IN ('pg_class'::regclass, 'pg_namespace'::regclass)
	AND obj_description(d.objid, d.classid::regclass::name) IS NULL;

-- Every setting says what it is, its unit and its default.
SELECT name FROM pg_settings WHERE name LIKE 'dsocr.%' AND short_desc !~ '\(.*default.*\)\.$';
