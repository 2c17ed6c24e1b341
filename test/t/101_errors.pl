# Errors of the engine: SQLSTATE, dsocr.on_error, dsocr_try, timeouts, the log.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;

my $node = new_server('errors');

my %state = (1 => '22P03', 2 => '22023', 3 => '54000', 4 => '58P01', 5 => '53200', 7 => '58000',
	8 => '58000', 9 => '58030', 10 => 'XX000');
my %status = (1 => 'undecodable', 2 => 'refused', 3 => 'refused', 5 => 'refused');
for my $code (sort { $a <=> $b } keys %state)
{
	my $status = $status{$code} // 'engine_error';
	my ($out, $err) = try_sql($node, verbose "SELECT dsocr_text('STUB:error=$code:it broke')");
	like($err, qr/ERROR:  $state{$code}: it broke$/m, "code $code is $state{$code}");
	is(sql($node, "SELECT sqlstate, error, raw IS NULL, pages ->> 0 FROM dsocr_try('STUB:error=$code:it broke')"),
		qq($state{$code}|it broke|t|{"page": 1, "error": "it broke", "status": "$status", "sqlstate": "$state{$code}"}),
		"dsocr_try returns code $code");

	my $of_document = $code == 1 || $code == 3;
	($out, $err) = try_sql($node, "SET dsocr.on_error = 'null'; SELECT dsocr_text('STUB:error=$code:x') IS NULL");
	is($out, $of_document ? 't' : '', "on_error = null, code $code");
	is($err =~ /ERROR/ ? 1 : 0, $of_document ? 0 : 1, "on_error = null raises code $code or not");
	($out, $err) = try_sql($node, verbose "SET dsocr.on_error = 'warning'; SELECT dsocr_text('STUB:error=$code:x') IS NULL");
	like($err, $of_document ? qr/WARNING:  $state{$code}: x/ : qr/ERROR:  $state{$code}: x/,
		"on_error = warning, code $code");
}

# cancellation is never a value
my ($out, $err) = try_sql($node, verbose "SET dsocr.on_error = 'null'; SELECT dsocr_text('STUB:error=6:stopped')");
like($err, qr/ERROR:  57014/, 'cancelled request with on_error = null');
($out, $err) = try_sql($node, verbose "SELECT dsocr_try('STUB:error=6:stopped')");
like($err, qr/ERROR:  57014/, 'cancelled request in dsocr_try');
for my $f ("dsocr_text('STUB:sleep=60')", "dsocr_try('STUB:sleep=60')", "dsocr_tokens('STUB:sleep=60'::bytea)")
{
	($out, $err) = try_sql($node, verbose "SET dsocr.on_error = 'null'; SET statement_timeout = 200; SELECT $f");
	like($err, qr/ERROR:  57014: canceling statement due to statement timeout/, "statement_timeout in $f");
	($out, $err) = try_sql($node, verbose "SET dsocr.on_error = 'null'; SET dsocr.timeout = 200; SELECT $f");
	like($err, qr/ERROR:  57014/, "dsocr.timeout in $f");
}
is(sql($node, 'SELECT count(*) FROM dsocr.requests'), '0', 'nothing is left in the queue');

# errors in subtransactions
is(sql($node, q{
	CREATE FUNCTION caught(image bytea) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		RETURN dsocr_text(image);
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END $$;
	SELECT string_agg(caught(convert_to('STUB:error=' || (i % 3 + 1) || ':x', 'UTF8')), ' ' ORDER BY i)
	FROM generate_series(0, 49) i}), join(' ', map { $state{$_ % 3 + 1} } 0 .. 49), 'caught 50 times');

# a text that was cut
($out, $err) = try_sql($node, verbose "SELECT dsocr_text('STUB:length;text=abcd')");
like($err, qr/WARNING:  01004: text was cut at 2 tokens\nHINT:  The model's context is full/, 'context is full');
($out, $err) = try_sql($node, "SELECT dsocr_text('STUB:length;text=abcd', max_tokens => 2)");
like($err, qr/HINT:  Raise dsocr.max_tokens or the argument max_tokens/, 'limit was reached');
is(sql($node, "SET client_min_messages = error; SELECT finish_reason, error FROM dsocr_try('STUB:length;text=abcd')"),
	'length|', 'and dsocr_try says so');

# neither text nor image nor prompt is in the log
sql($node, q{SET dsocr.log_requests = on;
	SELECT dsocr_text(convert_to('STUB:text=' || reverse('noilimrev'), 'UTF8'))});
try_sql($node, q{SET dsocr.log_requests = on; SELECT dsocr_generate(
	convert_to('STUB:error=1:refused;' || reverse('eniramauqa'), 'UTF8'), reverse('neergdim'))});
like(log_of($node), qr/ERROR:  refused/, 'the error is in the log');
unlike(log_of($node), qr/vermilion|aquamarine|midgreen/, 'text, image and prompt are not');
$node->stop;
done_testing();
