# Cursors: forwards, backwards, across savepoints, held and left open.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;
use DsocrBatch;

my $node = new_server('batch_cursors', conf => "dsocr.max_requests = 40");
create_scans($node);
sql($node, 'CREATE TABLE many AS SELECT i AS id, doc(i) AS img FROM generate_series(1, 60) i; ANALYZE many');

my $moves = 'FETCH 3 FROM c; FETCH BACKWARD 2 FROM c; FETCH 4 FROM c; MOVE FORWARD 2 IN c; FETCH PRIOR FROM c;
	FETCH LAST FROM c; FETCH NEXT FROM c; FETCH PRIOR FROM c; FETCH BACKWARD ALL FROM c; FETCH PRIOR FROM c; FETCH 2 FROM c;
	FETCH ABSOLUTE 7 FROM c; FETCH RELATIVE -3 FROM c; FETCH FIRST FROM c; FETCH ABSOLUTE -2 FROM c; FETCH ALL FROM c; FETCH -2 FROM c;';
my %selects = (
	'a scan'        => 'SELECT id, dsocr_text(img) FROM scan',
	'many rows'     => 'SELECT id, dsocr_text(img) FROM many',
	'a filter'      => "SELECT id, dsocr_figure(img) FROM many WHERE dsocr_text(img) LIKE '%1%'",
	'a sort below'  => 'SELECT id, dsocr_text(img) FROM scan ORDER BY id DESC LIMIT 10',
	'a sort above'  => 'SELECT id, dsocr_text(img) AS t FROM scan ORDER BY t',
	'a join'        => 'SELECT s.id, dsocr_text(t.img) FROM scan s JOIN scan t USING (id)',
	'an aggregate'  => 'SELECT grp, max(dsocr_text(img)) FROM scan GROUP BY grp ORDER BY grp',
	'a union'       => 'SELECT id, dsocr_text(img) FROM scan UNION ALL SELECT id, dsocr_text(img) FROM scan',
);

for my $name (sort keys %selects)
{
	same_results($node, "scroll, $name", "BEGIN; DECLARE c SCROLL CURSOR FOR $selects{$name}; $moves COMMIT");
	same_results($node, "default, $name", "BEGIN; DECLARE c CURSOR FOR $selects{$name}; FETCH 5 FROM c; FETCH BACKWARD 2 FROM c", fails => 1);
	same_results($node, "no scroll, $name", "BEGIN; DECLARE c NO SCROLL CURSOR FOR $selects{$name}; FETCH 2 FROM c; FETCH 3 FROM c; FETCH ALL FROM c; FETCH ALL FROM c; COMMIT");
	same_results($node, "held, $name", "BEGIN; DECLARE c SCROLL CURSOR WITH HOLD FOR $selects{$name}; FETCH 2 FROM c; COMMIT; FETCH BACKWARD 1 FROM c; FETCH ALL FROM c; CLOSE c");
}
is_at_baseline($node, 'closed cursors hold nothing');

# what was begun in a savepoint that is rolled back is begun anew
my $read = $selects{'many rows'};
same_results($node, 'a savepoint', "BEGIN; DECLARE c CURSOR FOR $read; FETCH 2 FROM c; SAVEPOINT a; FETCH 5 FROM c; ROLLBACK TO a;
	FETCH 5 FROM c; SAVEPOINT b; FETCH 3 FROM c; RELEASE b; FETCH ALL FROM c; COMMIT");
same_results($node, 'an open cursor and other queries', "BEGIN; DECLARE c CURSOR FOR $read; FETCH 2 FROM c; DECLARE d CURSOR FOR $read;
	FETCH 3 FROM d; SELECT count(dsocr_text(img)) FROM many; FETCH ALL FROM c; FETCH ALL FROM d; COMMIT");
same_results($node, 'many open cursors', 'BEGIN; ' . join(' ', map { "DECLARE c$_ CURSOR FOR $read; FETCH 9 FROM c$_;" } 1 .. 8) .
	join(' ', map { "FETCH ALL FROM c$_;" } reverse 1 .. 8) . ' COMMIT');

# a cursor that is left open keeps its slots; others go on, and its end frees them
my $session = begin_sql($node, "BEGIN; DECLARE c CURSOR FOR $read; FETCH 20 FROM c; SELECT pg_sleep(60)");
my $asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
ok(wait_until(sub { sql($node, $asleep) == 1 }), 'a cursor is open');
is(sql($node, 'SELECT count(dsocr_text(img)) FROM many'), 48, 'others go on');
sql($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
end_sql($session);
is_at_baseline($node, 'its session has ended');

# loops of PL/pgSQL are cursors; they may be left early
same_results($node, 'a loop', "DO \$\$ DECLARE r record; BEGIN FOR r IN $read LOOP RAISE NOTICE '%', r; EXIT WHEN r.id = 14; END LOOP; END \$\$", fails => 1);
same_results($node, 'a loop that commits', "DO \$\$ DECLARE r record; BEGIN FOR r IN $read LOOP RAISE NOTICE '%', r; COMMIT; END LOOP; END \$\$", fails => 1);
is_at_baseline($node, 'nothing is left in the queue');
$node->stop;
done_testing();
