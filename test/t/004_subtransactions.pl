# What is in flight ends with its transaction, subtransaction, block or worker.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;

stub_environment('slots=8');
my $node = new_server('subtransactions', conf => 'dsocr.max_requests = 16');
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
my $slow = image('sleep=20');
my $quick = image('sleep=0.01;text=quick');

$node->safe_psql('postgres', <<"END");
CREATE FUNCTION t.caught(doc bytea, ms int) RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
	PERFORM set_config('dsocr.timeout', ms::text, true);
	RETURN dsocr_generate(doc, 'x');
EXCEPTION WHEN query_canceled THEN
	RETURN 'caught ' || SQLSTATE;
END \$\$;
CREATE TABLE t.pages AS SELECT i, $quick AS doc FROM generate_series(1, 200) i;
ALTER TABLE t.pages SET (parallel_workers = 2);
ANALYZE t.pages;
END

# 500 aborts in exception blocks, nested in one transaction.
is( $node->safe_psql('postgres', <<"END"), '500|caught 57014', '500 exception blocks');
SELECT count(*), min(r) FROM (
	SELECT t.caught($slow, 1 + i % 5) AS r FROM generate_series(1, 500) i) s;
END
is_at_baseline($node, 'after exception blocks');

# Inside the transaction that goes on, the slot is free again.
is( $node->safe_psql('postgres', <<"END"), "quick\n0", 'savepoint');
\\set ON_ERROR_STOP 0
BEGIN;
SAVEPOINT a;
SET LOCAL dsocr.timeout = 20;
SELECT dsocr_generate($slow, 'x');
ROLLBACK TO a;
SELECT dsocr_generate($quick, 'x');
SELECT pg_sleep(0.5) \\g /dev/null
SELECT slots_used FROM t.status();
COMMIT;
END

# An error beside the call, and a cursor left open.
my ($rc, $out, $err) = $node->psql('postgres', <<"END");
SELECT dsocr_generate(doc, 'x'), 1 / (i - 100) FROM t.pages ORDER BY i;
END
like($err, qr/division by zero/, 'error in another column');
$node->safe_psql('postgres', <<"END");
BEGIN;
DECLARE c CURSOR FOR SELECT dsocr_generate(doc, 'x') FROM t.pages;
FETCH 3 FROM c;
SAVEPOINT b;
FETCH 3 FROM c;
ROLLBACK TO b;
COMMIT;
BEGIN;
SELECT dsocr_generate($quick, 'x');
ROLLBACK;
END
is_at_baseline($node, 'after errors and cursors');

# Parallel workers: to the end, and stopped on the way.
my $parallel = <<'END';
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2; SET debug_parallel_query = off;
END
$parallel =~ s/SET debug_parallel_query = off;//;
like($node->safe_psql('postgres', "$parallel EXPLAIN (COSTS off) SELECT dsocr_generate(doc, 'x') FROM t.pages"),
	qr/Gather/, 'the plan is parallel');
is($node->safe_psql('postgres',
		"$parallel SELECT count(*) FROM (SELECT dsocr_generate(doc, 'x') AS r FROM t.pages OFFSET 0) s WHERE r = 'quick'"),
	200, 'parallel workers read');
is_at_baseline($node, 'after parallel workers');
for my $ms (5, 20, 50, 100, 200)
{
	($rc, $out, $err) = $node->psql('postgres',
		"$parallel SET statement_timeout = $ms; SELECT dsocr_generate($slow || doc, 'x') FROM t.pages");
	like($err, qr/canceling statement due to statement timeout/, "parallel workers stopped after $ms ms");
}
is_at_baseline($node, 'after stopped parallel workers');
server_is_same($node, $started, 'server was not restarted');
$node->stop;
done_testing();
