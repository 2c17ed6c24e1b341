# Plans that are kept: parameters, settings that change, functions that change.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;
use DsocrBatch;

my $node = new_server('batch_prepared');
create_scans($node);

my $generic = 'SET plan_cache_mode = force_generic_plan;';
my %queries = (
	'parameters'     => q{PREPARE p(int, text) AS SELECT id, dsocr_generate(img, $2) FROM scan WHERE id > $1; EXECUTE p(3, 'a'); EXECUTE p(8, 'b'); EXECUTE p(NULL, 'c'); EXECUTE p(1, NULL)},
	'a document'     => q{PREPARE p(bytea) AS SELECT id, dsocr_text($1) FROM scan; EXECUTE p('STUB:text=one'); EXECUTE p(NULL)},
	'a limit'        => q{PREPARE p(int) AS SELECT id, dsocr_text(img) FROM scan LIMIT $1 OFFSET $1; EXECUTE p(2); EXECUTE p(5); EXECUTE p(NULL); EXECUTE p(0)},
	'a wrong limit'  => q{PREPARE p(int) AS SELECT id, dsocr_text(img) FROM scan LIMIT $1; EXECUTE p(-2)},
	'options'        => q{PREPARE p(dsocr_mode, int) AS SELECT dsocr_text(img, $1, max_tokens => $2) FROM scan; EXECUTE p('tiny', 5); EXECUTE p(NULL, 0)},
	'other columns'  => q{PREPARE p AS SELECT * FROM (SELECT scan, dsocr_text(img) FROM scan) s; EXECUTE p; BEGIN; ALTER TABLE scan ALTER note TYPE varchar; EXECUTE p; ROLLBACK},
	'another table'  => q{CREATE TEMP TABLE own AS SELECT * FROM scan; PREPARE p AS SELECT id, dsocr_text(img) FROM own; EXECUTE p; ALTER TABLE own DROP note; UPDATE own SET id = -id; EXECUTE p},
	'a function'     => q{CREATE FUNCTION pg_temp.f(n int) RETURNS SETOF text LANGUAGE plpgsql AS
		'BEGIN RETURN QUERY SELECT dsocr_text(img) FROM public.scan WHERE id < n; END'; SELECT * FROM pg_temp.f(4); SELECT * FROM pg_temp.f(2); SELECT id, pg_temp.f(id) FROM scan WHERE id < 5},
	'a recursive one' => q{CREATE FUNCTION pg_temp.f(n int) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE r record; all_of text := '';
		BEGIN
			FOR r IN SELECT id, dsocr_text(img) AS body, CASE WHEN n > 0 AND id % 4 = 1 THEN pg_temp.f(n - 1) END AS inner_body FROM public.scan LOOP
				all_of := all_of || '(' || r.id || coalesce(r.body, '-') || coalesce(r.inner_body, '') || ')';
			END LOOP;
			RETURN all_of;
		END $$; SELECT pg_temp.f(2)},
	'an SQL function' => q{CREATE FUNCTION pg_temp.f(n int) RETURNS SETOF text LANGUAGE sql VOLATILE AS
		'SELECT dsocr_text(img) FROM public.scan WHERE id < n'; SELECT * FROM pg_temp.f(4); SELECT id, pg_temp.f(id) FROM scan WHERE id < 5},
);
for my $name (sort keys %queries)
{
	same_results($node, "$name, custom plan", $queries{$name}, fails => 1);
	same_results($node, "$name, generic plan", "$generic $queries{$name}", fails => 1);
}

# a plan with batch scans made before the setting was switched off, and the other way round
my $explain = 'EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) EXECUTE p';
my $out = sql($node, "$generic PREPARE p AS SELECT id, dsocr_text(img) FROM scan WHERE dsocr_figure(img) > '';
EXECUTE p;
\\echo ----
SET dsocr.batch_scan = off; EXECUTE p;
\\echo ----
$explain");
my ($first, $second) = split /----\n/, $out;
is(scalar(() = $first =~ /\|text/g), 10, 'before it was switched off');
is($second, $first, 'switched off: equal');
like($out, qr/DsocrBatch.*Images: 0/s, 'nothing is begun ahead any more');

# the functions change while the plan is kept
like(sql($node, "$generic PREPARE p AS SELECT dsocr_text(img) FROM scan LIMIT 1; EXECUTE p; DROP EXTENSION dsocr CASCADE; CREATE EXTENSION dsocr; SELECT count(*) FROM pg_extension WHERE extname = 'dsocr'"),
	qr/text 1\n1/, 'the extension may be dropped');
my (undef, $err) = try_sql($node, "$generic PREPARE p AS SELECT dsocr_text(img) FROM scan LIMIT 1; EXECUTE p; BEGIN; DROP EXTENSION dsocr CASCADE; EXECUTE p");
like($err, qr/ERROR:  function .* does not exist/, 'and the plan goes with it');
$node->stop;
done_testing();
