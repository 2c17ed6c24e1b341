# However a document is stored it is read alike, and its memory is given back.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;

stub_environment('latency=0');
my $node = new_server('storage', conf => "dsocr.max_image_bytes = '200MB'\ndsocr.queue_memory = '512MB'");
sql($node, q{CREATE TABLE doc (name text, image bytea);
	CREATE TABLE external (LIKE doc); ALTER TABLE external ALTER image SET STORAGE external;
	CREATE TABLE main (LIKE doc); ALTER TABLE main ALTER image SET STORAGE main;
	CREATE TABLE plain (LIKE doc); ALTER TABLE plain ALTER image SET STORAGE plain});

# sizes around the edges of the formats: short header, inline, one and many chunks
for my $n (11, 100, 126, 127, 128, 129, 1900, 2100, 7000, 100_000, 3_000_000)
{
	for my $table (qw(doc external main plain))
	{
		next if $table eq 'plain' && $n > 7000;
		for my $fill ('zeros', 'noise')
		{
			my $bytes = $fill eq 'zeros' ? "decode(repeat('00', $n), 'hex')"
			  : "substr((SELECT string_agg(sha256(int8send(i)), '') FROM generate_series(0, $n / 32) i), 1, $n)";
			my $got = sql($node, "TRUNCATE $table; INSERT INTO $table VALUES ('x', $bytes); SELECT dsocr_text(image) FROM $table");
			is($got, "stub: $n bytes", "$table, $n bytes of $fill");
		}
	}
}
if (sql($node, q{SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'}) eq 't')
{
	is(sql($node, q{SET default_toast_compression = lz4; CREATE TABLE lz (image bytea);
		INSERT INTO lz VALUES (decode(repeat('ab', 50000), 'hex')); SELECT dsocr_text(image) FROM lz}), 'stub: 50000 bytes', 'lz4');
}

# slices, composites, arrays and variables of PL/pgSQL
is(sql($node, 'SELECT dsocr_text(substr(image, 1, 1000)) FROM doc'), 'stub: 1000 bytes', 'slice');
is(sql($node, 'SELECT dsocr_text((d).image) FROM (SELECT doc AS d FROM doc) s'), 'stub: 3000000 bytes', 'field of a row');
is(sql($node, 'SELECT dsocr_text((array_agg(image))[1]) FROM doc'), 'stub: 3000000 bytes', 'element of an array');
is(sql($node, q{CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS $$ DECLARE v bytea; BEGIN
	SELECT image INTO v FROM doc; RETURN dsocr_text(v); END $$; SELECT f()}), 'stub: 3000000 bytes', 'variable');

# too large is refused before it is fetched
my ($out, $err) = try_sql($node, "SET dsocr.max_image_bytes = '2MB'; SELECT dsocr_text(image) FROM doc");
like($err, qr/ERROR:  document has 3000000 bytes, more than dsocr.max_image_bytes \(2MB\)\nHINT:  Store a smaller image/, 'limit');

# large documents: what the backend holds after, and while it waits
my $peak = q{CREATE FUNCTION peak_kb() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
	RETURN (regexp_match(pg_read_file('/proc/' || pg_backend_pid() || '/status'), 'RssAnon:\s+(\d+)'))[1]; END $$};
sql($node, $peak);
sql($node, q{TRUNCATE external; INSERT INTO external VALUES ('big', decode(repeat('00', 100000000), 'hex'))});
my @kb = split /\n/, sql($node, 'SELECT length(dsocr_text(substr(image, 1, 10))) FROM external; SELECT pg_sleep(0) IS NULL, peak_kb();
	SELECT dsocr_text(image) FROM external; SELECT dsocr_text(image) FROM external; SELECT dsocr_text(image) FROM external; SELECT peak_kb()');
my ($before, $after) = ((split /\|/, $kb[1])[1], $kb[-1]);
is_deeply([ @kb[ 2 .. 4 ] ], [ ('stub: 100000000 bytes') x 3 ], 'large document');
cmp_ok($after - $before, '<', 60_000, "memory came back: $before kB before, $after kB after");
is(sql($node, q{SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'dsocr request'}), '0', 'no context is left');
is(sql($node, q{SELECT dsocr_text(image) FROM external; SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'dsocr request'}),
	"stub: 100000000 bytes\n0", 'not even in the session');

# Nor does a statement over many rows grow, whether rows are read or refused.  The
# allocator's own growth ends at 4 MB; one text kept of each call would be 11 MB.
my $many = q{SELECT count((dsocr_read(d)).raw), count(dsocr_layout(d)), count(dsocr_text(d)), (SELECT sum(r.ord) FROM rows, dsocr_blocks(image) r)
	FROM (SELECT image AS d FROM rows OFFSET 0) s};
sql($node, q{CREATE TABLE rows AS SELECT CASE WHEN i % 2 = 0 THEN convert_to('STUB:error=1:bad', 'UTF8')
	ELSE convert_to('STUB:text=<|ref|>a<|/ref|><|det|>[[1,2,3,4]]<|/det|>' || repeat('x', 3500), 'UTF8') END AS image FROM generate_series(1, 400) i});
my $contexts = 'SELECT sum(total_bytes) / 1024 FROM pg_backend_memory_contexts';
@kb = split /\n/, sql($node, "SET dsocr.on_error = 'null'; $many; $contexts; SELECT peak_kb(); $many; $many; SELECT peak_kb(); $contexts");
my ($held, $holds) = splice(@kb, 1, 1), pop @kb;
cmp_ok($holds - $held, '<', 64, "memory contexts: $held kB, then $holds kB");
is($kb[0], '200|200|200|200', 'many rows');
cmp_ok($kb[-1] - $kb[1], '<', 5000, "memory after 1600 calls $kb[1] kB, after 4800 calls $kb[-1] kB");
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
