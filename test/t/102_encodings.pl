# Text in databases of other encodings.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;

my $node = new_server('encodings');
my %db = (latin1 => 'LATIN1', eucjp => 'EUC_JP', ascii => 'SQL_ASCII', utf8 => 'UTF8', mule => 'MULE_INTERNAL');

for my $name (sort keys %db)
{
	sql($node, "CREATE DATABASE $name ENCODING '$db{$name}' TEMPLATE template0 LOCALE 'C'");
	sql($node, "CREATE EXTENSION dsocr", db => $name);
}

# image whose text is the given UTF-8 bytes (hex)
sub bytes { return "('STUB:text='::bytea || '\\x$_[0]')" }
sub hex_of { return unpack('H*', $_[0]) }
my $zurich = "Z\xc3\xbcrich";			  # u umlaut: LATIN1 and EUC_JP have it
my $kanji = "\xe6\xbc\xa2\xe5\xad\x97";	  # two characters of EUC_JP only
my $euro = "\xe2\x82\xac";				  # neither has the euro sign
my $emoji = "\xf0\x9f\x98\x80";
my $all = hex_of("$zurich $kanji $euro$emoji.");

# bytes in the database, characters replaced
my %expect = (
	utf8 => [hex_of("$zurich $kanji $euro$emoji."), 0],
	ascii => [hex_of("$zurich $kanji $euro$emoji."), 0],
	latin1 => [hex_of("Z\xfcrich ?? ??."), 4],
	eucjp => [hex_of("Z\x8f\xab\xe4rich \xb4\xc1\xbb\xfa ??."), 2],
	mule => [hex_of('Z?rich ?? ??.'), 5]);
for my $name (sort keys %db)
{
	my ($hex, $replaced) = @{ $expect{$name} };
	my $bytes = "encode(decode(replace(%s, '\\', '\\\\'), 'escape'), 'hex')";
	my @forms = (
		'dsocr_text(' . bytes($all) . ')',
		'(dsocr_read(' . bytes($all) . ')).raw',
		'dsocr_layout(' . bytes(hex_of('<|ref|>a<|/ref|><|det|>[[1,2,3,4]]<|/det|>') . $all) . ") #>> '{pages,0,elements,0,text}'",
		'(SELECT content FROM dsocr_blocks(' . bytes(hex_of('<|ref|>a<|/ref|><|det|>[[1,2,3,4]]<|/det|>') . $all) . '))');
	for my $form (@forms)
	{
		my ($out, $err) = try_sql($node, 'SELECT ' . sprintf($bytes, $form), db => $name);
		is($out, $hex, "$db{$name}: $form");
		my @notices = $err =~ /NOTICE:  (\d+) characters have no equivalent in encoding "$db{$name}"/g;
		is_deeply(\@notices, $replaced ? [$replaced] : [], "$db{$name}: one notice, right count");
		unlike($err, qr/ERROR|WARNING/, "$db{$name}: nothing else");
	}
}

# long texts and the ends of conversion chunks
for my $n (2040 .. 2060)
{
	next if $n % 4;
	my $hex = ('e6bca2' x 200) . ('78' x $n) . 'c3a9';
	my ($out, $err) = try_sql($node, "SELECT length(dsocr_text(" . bytes($hex) . "))", db => 'latin1');
	is($out, 200 + $n + 1, "length with $n");
	like($err, qr/NOTICE:  200 characters/, "count with $n");
}

# one character
my ($out, $err) = try_sql($node, 'SELECT dsocr_text(' . bytes("61e282ac") . ')', db => 'latin1');
like($err, qr/NOTICE:  1 character has no equivalent/, 'singular');
is($out, 'a?', 'and its text');

# prompts go the other way
is(sql($node, "SELECT encode(convert_to(dsocr_generate('STUB:prompt', convert_from('\\x$all', 'UTF8')), 'UTF8'), 'hex')",
	db => 'utf8'), $all, 'prompt in UTF8');
is(sql($node, "SELECT encode(convert_to(dsocr_generate('STUB:prompt', convert_from('\\x5afc72', 'LATIN1')), 'LATIN1'), 'hex')",
	db => 'latin1'), '5afc72', 'prompt in LATIN1');
is(sql($node, "SELECT encode(convert_to(dsocr_generate('STUB:prompt', convert_from('\\xb4c1', 'EUC_JP')), 'EUC_JP'), 'hex')",
	db => 'eucjp'), 'b4c1', 'prompt in EUC_JP');
($out, $err) = try_sql($node, "SELECT dsocr_generate('STUB:prompt', E'\\xff')", db => 'ascii');
like($err, qr/ERROR:  invalid byte sequence for encoding "UTF8": 0xff/, 'prompt that is not UTF-8');

# error messages of the engine
($out, $err) = try_sql($node, "SELECT dsocr_text('STUB:error=1:bad '::bytea || '\\x5ac3bce282ac')", db => 'latin1');
like($err, qr/ERROR:  bad Z(\xc3\xbc|\xfc)\?/, 'message in LATIN1');
is(sql($node, "SELECT encode(convert_to(error, 'LATIN1'), 'hex') FROM dsocr_try('STUB:error=1:bad '::bytea || '\\x5ac3bc')",
	db => 'latin1'), '626164205afc', 'message as value');
$node->stop;
done_testing();
