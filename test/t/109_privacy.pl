# What others are reading is nobody's business: views, errors, the log.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;

my $node = new_server('privacy', conf => "log_min_duration_statement = -1\nlog_statement = none\nlog_min_error_statement = panic\nlog_min_messages = debug5");
sql($node, q{CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats;
	CREATE ROLE monitor LOGIN IN ROLE pg_monitor; CREATE ROLE family LOGIN IN ROLE alice;
	CREATE TABLE page (image bytea); ALTER TABLE page OWNER TO alice;
	INSERT INTO page VALUES (convert_to('STUB:sleep=20;' || reverse('egassem terces'), 'UTF8'));
	CREATE TABLE bad (image bytea); ALTER TABLE bad OWNER TO alice;
	INSERT INTO bad VALUES (convert_to(reverse('setyb terces'), 'UTF8'))});

my $reader = begin_sql($node, q{SELECT dsocr_generate(image, reverse('tpmorp terces')) FROM page}, user => 'alice');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM dsocr.requests WHERE state = 'running'}), 'alice reads');
my $row = 'SELECT slot, pid IS NOT NULL, role, database, state, task, mode, device, attempts FROM dsocr.requests';
for my $role (qw(alice family watcher monitor))
{
	like(sql($node, $row, user => $role), qr/^\d+\|t\|alice\|postgres\|running\|generate\|auto\|cpu\|0$/, "$role sees whose and what");
}
like(sql($node, $row, user => 'bob'), qr/^\d+\|f\|\|\|running\|\|\|cpu\|0$/, 'bob sees that there is one');
for my $role (qw(bob watcher))
{
	my $seen = sql($node, q{SELECT to_jsonb(r) FROM dsocr.requests r; SELECT to_jsonb(s) FROM dsocr.stats s; SELECT to_jsonb(w) FROM dsocr.workers w;
		SELECT to_jsonb(s) FROM dsocr_status() s}, user => $role);
	unlike($seen, qr/secret/, "$role sees neither text nor prompt");
}
my ($out, $err) = try_sql($node, 'SELECT dsocr_text(image) FROM page', user => 'bob');
like($err, qr/permission denied for table page/, 'rights on tables hold');
sql($node, 'SELECT pg_cancel_backend(pid) FROM dsocr.requests');
end_sql($reader);
is_at_baseline($node, 'her request is gone');

# row-level security holds, in views and in parallel plans too
sql($node, q{CREATE TABLE letters (who name, image bytea); INSERT INTO letters SELECT w, convert_to('STUB:text=for ' || w, 'UTF8') FROM unnest('{alice,bob}'::name[]) w;
	ALTER TABLE letters ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON letters USING (who = current_user); GRANT SELECT ON letters TO alice, bob});
is(sql($node, 'SELECT dsocr_text(image) FROM letters', user => $_), "for $_", "policy for $_") for qw(alice bob);
is(sql($node, q{SELECT count(*) FROM letters WHERE dsocr_text(image) LIKE '%alice%'}, user => 'bob'), '0', 'a condition sees no hidden rows');

# errors show the reason, not the bytes
for my $f ('dsocr_text(image)', 'dsocr_layout(image)', 'dsocr_read(image, reverse($$tpmorp terces$$))')
{
	sql($node, q{UPDATE bad SET image = convert_to('STUB:error=1:not readable;' || reverse('setyb terces'), 'UTF8')});
	($out, $err) = try_sql($node, verbose("SELECT $f FROM bad"));
	like($err, qr/ERROR:  22P03: not readable/, "$f: reason");
	unlike($err, qr/secret|DETAIL/, "$f: no bytes");
}
sql($node, 'SET dsocr.log_requests = on; SELECT dsocr_read(image, reverse($$tpmorp terces$$)) FROM letters');
unlike(log_of($node), qr/secret/, 'the log has no text, image or prompt');
$node->stop;
done_testing();
