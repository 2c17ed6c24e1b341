# Errors and warnings come at the row and in the place where plain calls raise them.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;
use DsocrBatch;

my $node = new_server('batch_errors');
create_scans($node);

# ids 4 and 8 cannot be read, the first of them takes longest
sql($node, q{CREATE TABLE bad AS SELECT id, grp, CASE id WHEN 4 THEN 'STUB:sleep=0.1;error=1:bad page 4'::bytea
	WHEN 8 THEN 'STUB:error=1:bad page 8' WHEN 10 THEN 'STUB:length;text=cut 10' WHEN 11 THEN '' ELSE img END AS img
	FROM scan ORDER BY id;
	CREATE FUNCTION tell(i int) RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE 'row %', i; RETURN i; END$$});

my %queries = (
	'an error'         => 'SELECT id, dsocr_text(img) FROM bad',
	'a later one'      => 'SELECT id, dsocr_text(img) FROM bad WHERE id <> 4',
	'before another'   => 'SELECT tell(id), dsocr_text(img), 1 / (id - 4) FROM bad',
	'behind another'   => 'SELECT tell(id), 1 / (id - 4), dsocr_text(img) FROM bad',
	'in a filter'      => "SELECT tell(id) FROM bad WHERE dsocr_text(img) > ''",
	'not reached'      => 'SELECT tell(id), dsocr_text(img) FROM bad LIMIT 3',
	'not selected'     => 'SELECT tell(id), dsocr_text(img) FROM bad WHERE id <> 4 AND id < 8',
	'of two calls'     => "SELECT dsocr_text(CASE WHEN id = 2 THEN 'STUB:error=1:second'::bytea END), dsocr_text(img) FROM bad",
	'wrong arguments'  => 'SELECT tell(id), dsocr_text(img, max_tokens => 3 - id) FROM bad',
	'wrong dpi'        => 'SELECT tell(id), dsocr_text(img, dpi => 5000 * (id / 2)) FROM bad',
	'dsocr_try'        => 'SELECT id, (r).error, (r).sqlstate FROM (SELECT id, dsocr_try(img) AS r FROM bad OFFSET 0) t',
	'in an aggregate'  => 'SELECT count(dsocr_text(img)), count(1 / (id - 8)) FROM bad',
	'of the model'     => "SELECT tell(id), dsocr_text(CASE WHEN id = 3 THEN 'STUB:error=3:no model'::bytea ELSE img END) FROM bad",
	'null'             => "SET dsocr.on_error = 'null'; SELECT id, dsocr_text(img) FROM bad",
	'null, model'      => "SET dsocr.on_error = 'null'; SELECT id, dsocr_text('STUB:error=3:no model') FROM bad",
	'warning'          => "SET dsocr.on_error = 'warning'; SELECT tell(id), dsocr_text(img) FROM bad",
	'warning, limit'   => "SET dsocr.on_error = 'warning'; SELECT tell(id), dsocr_text(img) FROM bad LIMIT 6",
	'warning, filter'  => "SET dsocr.on_error = 'warning'; SELECT tell(id) FROM bad WHERE dsocr_text(img) IS NULL",
	'an exception block' => q{DO $$
		DECLARE r record;
		BEGIN
			FOR r IN SELECT id, dsocr_text(img) AS body FROM bad LOOP
				RAISE NOTICE '%: %', r.id, r.body;
			END LOOP;
		EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'caught %', SQLERRM;
		END $$; SELECT count(*) FROM bad},
	'a function in it' => q{CREATE FUNCTION pg_temp.inner_reads(i int) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			RETURN (SELECT string_agg(dsocr_text(img), '+') FROM bad WHERE id <= i);
		EXCEPTION WHEN OTHERS THEN RETURN 'caught ' || SQLERRM;
		END $$; SELECT id, dsocr_text(img), pg_temp.inner_reads(id) FROM bad WHERE id NOT IN (4, 8, 11)},
);
for my $name (sort keys %queries)
{
	same_results($node, $name, "\\set VERBOSITY verbose\n$queries{$name}", fails => 1);
}

# the same call twice warns once
my (undef, $err) = outcome($node, "SET dsocr.on_error = 'warning'; SELECT dsocr_text(img), dsocr_text(img) FROM bad", 'on');
is(() = $err =~ /WARNING:  bad page 4/g, 1, 'one call, one warning');

# the function without the library preloaded gives the usual error
my $plain = Dsocr::new_server('batch_not_loaded', stopped => 1);
$plain->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$plain->start;
(undef, $err) = try_sql($plain, 'CREATE EXTENSION dsocr; SELECT dsocr_text(d) FROM (VALUES (NULL), (1::text::bytea)) v(d)');
like($err, qr/ERROR:  .*preload/, 'not preloaded');
$plain->stop;

is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
