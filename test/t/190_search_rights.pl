# Searching with the rights of the caller: policies, privileges, hostile neighbours, dump and restore.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('latency=0');
my $node = new_server('search_rights');
sql($node, q{
CREATE ROLE app LOGIN;
CREATE ROLE clerk LOGIN;
CREATE ROLE mallory LOGIN;
CREATE SCHEMA app AUTHORIZATION app;
CREATE SCHEMA evil AUTHORIZATION mallory;
GRANT USAGE ON SCHEMA app, evil TO PUBLIC});
sql($node, q{
CREATE TABLE app.scan (id int PRIMARY KEY, owner name DEFAULT 'app', image bytea);
SELECT dsocr_attach('app.scan', 'image', side_table => 'page', language => 'english');
SELECT dsocr_index_elements('app.scan', 'element');
INSERT INTO app.scan VALUES (1, 'app', 'STUB:text=first boat'), (2, 'clerk', 'STUB:text=second boat')}, user => 'app');
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM app.page') eq '2' }, 60), 'both were read');

my $search = q{SELECT string_agg(key ->> 'id', ' ' ORDER BY key) FROM dsocr_search('app.scan', 'boats')};
my $find = q{SELECT string_agg(key ->> 'id', ' ' ORDER BY key) FROM dsocr_find('app.scan')};
is(sql($node, $search, user => 'app'), '1 2', 'the owner finds all');
is(sql($node, q{SELECT snippet FROM dsocr_search('app.scan', 'second')}, user => 'app'), '<mark>second</mark> boat', 'marked');

# places, of what the stub gives no boxes for
sql($node, q{UPDATE app.page SET layout = jsonb_build_object('page', 1, 'width', 100, 'height', 100, 'elements',
	jsonb_build_array(jsonb_build_object('type', 'text', 'text', text, 'boxes', '[[60, 60, 90, 70]]'::jsonb)))}, user => 'app');
is(sql($node, $find, user => 'app'), '1 2', 'and all elements');

# privileges, one after the other
sub denied
{
	my ($statement, $user, $what) = @_;
	my (undef, $err) = try_sql($node, $statement, user => $user);
	like($err, qr/permission denied for (table|schema)/, $what);
	return;
}
denied($search, 'clerk', 'nothing granted');
sql($node, 'GRANT SELECT ON app.page, app.element TO clerk', user => 'app');
denied($search, 'clerk', 'the side table is not enough');
denied($find, 'clerk', 'nor is the table of elements');
sql($node, 'GRANT SELECT (id) ON app.scan TO clerk', user => 'app');
is(sql($node, $search, user => 'clerk'), '1 2', 'the column of the key is');
is(sql($node, $find, user => 'clerk'), '1 2', 'for elements too');
sql($node, 'REVOKE SELECT ON app.page FROM clerk; GRANT SELECT (id, page, text, tsv) ON app.page TO clerk', user => 'app');
denied($search, 'clerk', 'the layout is looked at');
sql($node, 'GRANT SELECT ON app.page TO clerk', user => 'app');

# policies of the attached table hold for its pages and elements
sql($node, 'ALTER TABLE app.scan ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON app.scan USING (owner = current_user)', user => 'app');
is(sql($node, $search, user => 'clerk'), '2', 'pages of rows that may be seen');
is(sql($node, $find, user => 'clerk'), '2', 'elements of rows that may be seen');
is(sql($node, $search, user => 'app'), '1 2', 'the owner still finds all');

# names that somebody else made do not count, nor do settings
sql($node, q{
CREATE FUNCTION evil.to_tsvector(regconfig, text) RETURNS tsvector LANGUAGE plpgsql AS $$BEGIN RAISE 'called'; END$$;
CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'called'; END$$;
CREATE FUNCTION evil.same(int, int) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'called'; END$$;
CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = int, RIGHTARG = int)}, user => 'mallory');
is(sql($node, "SET search_path = evil, pg_catalog, public; $search", user => 'clerk'), '2', 'no function or operator of others is called');
is(sql($node, "SET search_path = evil, pg_catalog, public; $find", user => 'clerk'), '2', 'for elements neither');
is(sql($node, "SET standard_conforming_strings = off; SET backslash_quote = on; SELECT count(*) FROM dsocr_search('app.scan', E'\\\\'' boat')", user => 'clerk'),
	'1', 'quotes hold with old settings of strings');

sql($node, q{CREATE TABLE app.tongue (id int PRIMARY KEY, image bytea, words tsvector, speech regconfig);
	SELECT dsocr_attach('app.tongue', 'image', tsvector_column => 'words', language_column => 'speech');
	INSERT INTO app.tongue VALUES (1, NULL, to_tsvector('german', 'Häuser'), 'german')}, user => 'app');
is(sql($node, "SET quote_all_identifiers = on; SELECT key FROM dsocr_search('app.tongue', 'Haus')", user => 'app'), '{"id": 1}', 'languages are told by their names');

# a table that somebody hangs on the attached one is no side table
sql($node, 'GRANT REFERENCES ON app.scan TO mallory; CREATE TABLE app.other (id int PRIMARY KEY, image bytea, body text)', user => 'app');
sql($node, q{SELECT dsocr_attach('app.other', 'image', text_column => 'body'); GRANT REFERENCES, SELECT ON app.other TO mallory;
	INSERT INTO app.other VALUES (1, NULL, 'boat')}, user => 'app');
sql($node, q{CREATE TABLE evil.page (id int REFERENCES app.other, page int, text text);
	CREATE TRIGGER dsocr_image AFTER UPDATE OF page, text ON evil.page FOR EACH ROW WHEN (false) EXECUTE FUNCTION public.dsocr_attach_side('page text');
	INSERT INTO evil.page VALUES (1, 1, 'forged'); GRANT SELECT ON evil.page TO PUBLIC}, user => 'mallory');
is(sql($node, q{SELECT count(*) FROM dsocr_search('app.other', 'forged')}, user => 'app'), '0', 'nothing is found in a forged side table');
is(sql($node, q{SELECT count(*) FROM dsocr_search('app.other', 'boat')}, user => 'app'), '1', 'the text of the table is');

# who does not own the table cannot make its table of elements
my (undef, $err) = try_sql($node, q{SELECT dsocr_index_elements('app.scan', 'mine')}, user => 'clerk');
like($err, qr/permission denied|must be owner/, 'a table of elements needs rights');

# dump and restore: triggers and foreign keys say all there is
my $dump = $node->basedir . '/dump.sql';
$node->command_ok(['pg_dump', '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres'], 'dumped');
sql($node, 'CREATE DATABASE after');
$node->command_ok(['psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-d', 'after', '-f', $dump], 'restored');
is(sql($node, $search, user => 'app', db => 'after'), '1 2', 'found after a restore');
is(sql($node, $find, user => 'app', db => 'after'), '1 2', 'elements too');
sql($node, q{UPDATE app.page SET layout = jsonb_set(layout, '{elements,0,text}', '"renewed"') WHERE id = 1}, user => 'app', db => 'after');
is(sql($node, q{SELECT key ->> 'id' FROM dsocr_find('app.scan', 'renewed', '(0.5,0.5),(1,1)')}, user => 'app', db => 'after'), '1', 'they follow');

$node->stop;
done_testing();
