# Sessions that read documents with hardly any slots: nobody waits for ever.
use strict;
use warnings;
use Test::More;
use Time::HiRes qw(time);
use Dsocr;
use DsocrSql;

sub pdf
{
	my ($commands) = @_;
	return "'%PDF-1.4 STUB:$commands'::bytea";
}

for my $slots (2, 3, 4, 8)
{
	my $node = new_server("slots$slots", pages => 'stub',
		conf => "dsocr.max_requests = $slots\ndsocr.queue_memory = 2MB\ndsocr.queue_timeout = 120s");
	my $document = pdf('pages=25;sleep=0.002;bytes=100000;each=sleep=0.005,text=#');
	my $image = "'STUB:sleep=0.005;text=image'::bytea";
	my $whole = sql($node, "SELECT dsocr_text($document)");
	my $start = time;
	my @readers = map { begin_sql($node, "SELECT dsocr_text($document)") } 1 .. 8;
	my @rows = map {
		begin_sql($node, "SELECT count(*) FROM (SELECT dsocr_text($image) t FROM generate_series(1, 50)) s WHERE t = 'image'")
	} 1 .. 3;

	# within a function that reads for each row, and rows of documents read ahead
	my $nested = begin_sql($node, 'SELECT count(*) FROM (VALUES (' . join('), (', ($document) x 3) . ")) v(d)
		WHERE dsocr_text(d, pages => '[1,9]') IS NOT NULL AND length(dsocr_text(d, pages => '[1,2]')) > 0");

	my $same = grep { (end_sql($_))[1] eq $whole } @readers;
	is($same, 8, "$slots slots, 8 documents at once");
	is(join(' ', map { (end_sql($_))[1] } @rows), '50 50 50', 'and images between them');
	is((end_sql($nested))[1], '3', 'and documents within documents');
	cmp_ok(time - $start, '<', 110, 'nobody waited for a timeout');
	is_at_baseline($node, 'nothing is left');

	# a session that has read ahead and sleeps leaves room for others
	sql($node, "CREATE TABLE page AS SELECT $image AS image FROM generate_series(1, 50);
		CREATE TABLE book AS SELECT $document AS image FROM generate_series(1, 5)");
	for my $table ('page', 'book')
	{
		my $sleeper = begin_sql($node, "SET dsocr.prefetch = 32; BEGIN; DECLARE c CURSOR FOR SELECT dsocr_text(image) FROM $table;
			FETCH 1 FROM c; SELECT pg_sleep(60)");
		wait_until(sub { sql($node, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") eq '1' });
		my ($out, $err) = try_sql($node, "SET dsocr.queue_timeout = 30000; SELECT dsocr_text($image)");
		is($out, 'image', "beside a cursor over $table that is not fetched from") or diag($err);

		# with so few slots what the sleeper has leaves none for a document
		($out, $err) = $slots == 2 || ($slots == 3 && $table eq 'book') ? ($whole) : try_sql($node, "SET dsocr.queue_timeout = 60000; SELECT dsocr_text($document)");
		is($out, $whole, 'and a document') or diag($err);
		sql($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
		end_sql($sleeper);
		is_at_baseline($node, 'nothing is left of the sleeper');
	}
	$node->stop;
}
done_testing();
