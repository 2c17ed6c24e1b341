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
		conf => "dsocr.max_requests = $slots\ndsocr.queue_memory = 2MB\ndsocr.queue_timeout = 40s");
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
	cmp_ok(time - $start, '<', 35, 'nobody waited for a timeout');
	is_at_baseline($node, 'nothing is left');
	$node->stop;
}
done_testing();
