# A table that is distributed by Citus: each node reads the rows of its own
# shards with its own engine.  Skipped where the server has no citus.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $pages = $ENV{DSOCR_CITUS_PAGES} // 200;

stub_environment('latency=100;slots=4');
my @nodes;

sub start_node
{
	my ($name) = @_;
	my $node = new_server($name, stopped => 1, conf => <<'END');
listen_addresses = '127.0.0.1'
wal_level = logical
max_prepared_transactions = 20
END

	$node->start;
	plan(skip_all => 'the server has no citus')
	  if sql($node, q{SELECT count(*) FROM pg_available_extensions WHERE name = 'citus'}) eq '0';
	# the last line counts; citus has to come first
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'citus,dsocr'\n");
	$node->restart;
	sql($node, 'CREATE EXTENSION citus');
	push @nodes, $node;
	return $node;
}

my $head = start_node('head');
my @workers = map { start_node("shards$_") } 1, 2;
sql($head, "SELECT citus_set_coordinator_host('127.0.0.1', " . $head->port . ')');
sql($head, "SELECT citus_add_node('127.0.0.1', " . $_->port . ')') for @workers;
sql($head, 'CREATE EXTENSION dsocr');
is(sql($_, q{SELECT count(*) FROM pg_extension WHERE extname = 'dsocr'}), '1', 'the extension is on all nodes') for @nodes;

sub on_workers { my ($query) = @_; return join ' ', map { sql($_, $query) } @workers; }
my $drained = sub { return on_workers('SELECT count(*) FROM dsocr.job_queue') eq '0 0'; };
my $texts = 'SELECT count(*), count(body) FROM scan';

# rows that are there before the table is attached, and rows that come
sql($head, <<'END');
CREATE TABLE scan (id int PRIMARY KEY, image bytea, body text);
SELECT create_distributed_table('scan', 'id', shard_count => 8);
INSERT INTO scan SELECT g, convert_to('STUB:text=row ' || g, 'UTF8') FROM generate_series(1, 20) AS g;
END
my ($out, $err) = try_sql($head, q{SELECT dsocr_attach('scan', 'image', 'body')});
like($err, qr/triggers are not supported/i, 'Citus wants to be asked for triggers');
sql($head, q{SET citus.enable_unsafe_triggers = on; SELECT dsocr_attach('scan', 'image', 'body', backfill => false)});
is(sql($head, q{SELECT count(*) FROM run_command_on_shards('scan', $$SELECT dsocr_backfill('%s', 'image')$$) WHERE success}), '8', 'backfill, shard by shard');
ok(wait_until(sub { sql($head, $texts) eq '20|20' }, 60), 'rows that were there are read');
my $start = time;
sql($head, "INSERT INTO scan SELECT g, convert_to('STUB:text=row ' || g, 'UTF8') FROM generate_series(21, 20 + $pages) AS g");
ok(wait_until(sub { sql($head, $texts) eq (20 + $pages) . '|' . (20 + $pages) }, 120), 'rows that come are read');
note(sprintf '%d pages in %.1f s by two nodes that read 40 a second each', $pages, time - $start);
is(sql($head, q{SELECT count(*) FROM scan WHERE body = 'row ' || id}), 20 + $pages, 'each has its own text');
is(sql($head, 'SELECT count(*) FROM dsocr.job_tally'), '0', 'nothing was read by the coordinator');
is(on_workers(q{SELECT count(*) > 0 FROM dsocr.job_tally}), 't t', 'all by the nodes of the shards');

# changes through any node
sql($workers[0], q{UPDATE scan SET image = convert_to('STUB:text=new', 'UTF8') WHERE id IN (1, 2, 3, 4)});
ok(wait_until(sub { sql($head, q{SELECT count(*) FROM scan WHERE body = 'new'}) eq '4' }, 30), 'a new image is read, whichever node is told');
sql($head, q{BEGIN; UPDATE scan SET image = convert_to('STUB:text=never', 'UTF8') WHERE id = 5; ROLLBACK});
sql($head, 'DELETE FROM scan WHERE id > 20');
ok(wait_until($drained, 30), 'drained');

# calls are made where the rows are
is(sql($head, q{SELECT count(*) FROM scan WHERE dsocr_generate(image, 'x') ~ '^(row|new)'}), '20', 'a function over all shards');
like(sql($head, q{EXPLAIN (VERBOSE) SELECT id, dsocr_generate(image, 'x') FROM scan}), qr/Custom Scan \(Citus Adaptive\).*Task.*dsocr_generate/s, 'the call is in the tasks');
like(sql($head, q{SET citus.explain_all_tasks = off; EXPLAIN SELECT id, dsocr_generate(image, 'x') FROM scan}), qr/DsocrBatch/, 'and reads ahead there');

# a shard moves, with what is queued for it
sql($head, q{INSERT INTO scan SELECT g, convert_to('STUB:sleep=2;text=row ' || g, 'UTF8') FROM generate_series(101, 140) AS g});
my ($from, $to) = map { $_->port } @workers;
my $shard = sql($head, "SELECT min(shardid) FROM citus_shards WHERE table_name = 'scan'::regclass AND nodeport = $from");
sql($head, "SELECT citus_move_shard_placement($shard, '127.0.0.1', $from, '127.0.0.1', $to, 'block_writes')");
is(sql($workers[1], "SELECT count(*) FROM pg_trigger WHERE tgname ~ '^dsocr.*_$shard'") > 0 ? 't' : 'f', 't', 'its triggers have moved');
ok(wait_until($drained, 60), 'drained');
note('without text after the move: ' . sql($head, 'SELECT count(*) FROM scan WHERE body IS NULL'));
sql($head, q{SELECT run_command_on_shards('scan', $$SELECT dsocr_backfill('%s', 'image')$$)});
ok(wait_until(sub { sql($head, 'SELECT count(*) FROM scan WHERE body IS NULL') eq '0' }, 60), 'a backfill finds what the move has lost');
ok(wait_until($drained, 30), 'drained');

# a node that dies comes back and goes on
sql($head, q{INSERT INTO scan SELECT g, convert_to('STUB:sleep=1;text=row ' || g, 'UTF8') FROM generate_series(201, 240) AS g});
$workers[1]->stop('immediate');
$workers[1]->start;
ok(wait_until(sub { my ($o) = try_sql($head, 'SELECT count(*) FROM scan WHERE body IS NULL'); $o eq '0' }, 60), 'all are read');

# detached on all nodes
sql($head, q{SET citus.enable_unsafe_triggers = on; SELECT dsocr_detach('scan', 'image')});
is(on_workers(q{SELECT count(*) FROM pg_trigger WHERE tgname ~ '^dsocr_image'}), '0 0', 'no trigger is left');
unlike(log_of($_), qr/PANIC|TRAP|signal 11/, 'nothing in the log') for @nodes;
$_->stop for @nodes;
done_testing();
