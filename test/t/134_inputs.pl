# Every kind of input file, good and bad: right pages or a clear error, as docs/inputs.md says.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrFiles;
use DsocrPicture;
use DsocrSql;
use JSON::PP;
use MIME::Base64;
use PostgreSQL::Test::Utils;

my $document = "$ENV{DSOCR_TOP}/docs/inputs.md";
my $dir = PostgreSQL::Test::Utils::tempdir();
my $maker = $ENV{DSOCR_STUB_ENGINE} =~ s/stub_engine$/make_inputs/r;
plan skip_all => 'a library of the files is not installed' unless -x $maker && program('qpdf');

# The real page server and the real engine with the built-in model, which writes one token.
my $engine = program('dsocr-engine');
my $node = document_server('inputs', conf => "dsocr.engine_path = '$engine'\ndsocr.model = ''\ndsocr.max_tokens = 1");
my $started = sql($node, 'SELECT pg_postmaster_start_time()');
my @files = map { chomp; my %f; @f{qw(name what expect password)} = split /\t/, $_, -1; \%f }
  split /^/, output_of($maker, $dir, "$ENV{DSOCR_TOP}/test/inputs");
cmp_ok(scalar @files, '>=', 220, 'the files were made');

# What dsocr_read and dsocr_pages make of a file, errors as values.  Pixels of small pages.
sql($node, <<'END');
CREATE FUNCTION try_pages(b bytea, pw text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	RETURN jsonb_build_object('pages', (SELECT jsonb_agg(jsonb_build_object('page', page, 'width', width,
		'height', height, 'image', CASE WHEN width * height <= 100000 THEN encode(image, 'base64') END) ORDER BY page)
		FROM dsocr_pages(b, dpi => 72, password => pw, pages => '[1,8]')));
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN jsonb_build_object('error', SQLSTATE || ': ' || SQLERRM, 'hint', hint);
END $$;
CREATE FUNCTION try_both(b bytea, pw text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	r jsonb := (SELECT to_jsonb(r) - 'layout' FROM dsocr_try(b, dpi => 72, password => pw, pages => '[1,8]') AS r);
BEGIN
	IF (r->>'page_count')::int > 1 THEN
		PERFORM set_config('dsocr.on_error', 'null', true);
	END IF;
	RETURN jsonb_build_object('seen', try_pages(b, pw), 'read', r);
END $$;
END
my $query = "SET client_min_messages = error;\n" . join "\n", map {
	my $password = $_->{password} eq '' ? 'NULL' : "'$_->{password}'";
	"SELECT try_both(pg_read_binary_file('$dir/$_->{name}'), $password);"
} @files;
my ($out, $err) = try_sql($node, $query);
my @answers = split /\n/, $out;
is($err, '', 'no statement failed');
is(scalar @answers, scalar @files, 'each file has an answer');

# One page in words.
sub page_in_words
{
	my ($page, $status) = @_;
	my $text = defined $page->{width} ? "$page->{width} x $page->{height}" : '';

	$text .= ': ' . quarters(decode_base64($page->{image})) if $page->{image};
	$text .= ', ' if $text ne '' && $status ne '';
	return $text . $status;
}

# How a page was read, if not well.
sub trouble
{
	my ($page) = @_;

	return $page->{status} =~ /^(ok|length)$/ ? '' : "$page->{status}: " . ($page->{error} =~ s/^page \d+: //r);
}

# The whole answer in words.
sub in_words
{
	my ($answer) = @_;
	my ($seen, $read) = @{$answer}{qw(seen read)};
	my $error = defined $read->{error} ? "$read->{sqlstate}: $read->{error}" : undef;

	if (defined $seen->{error} || defined $error)
	{
		# the number of the page is that of the only one
		$seen->{error} =~ s/^(\w+: )page 1: /$1/ if $seen->{error};
		$error =~ s/^(\w+: )page 1: /$1/ if $error;
		my $hint = ($seen->{hint} // '') =~ /dsocr_try/ ? '' : $seen->{hint}; # that one is of all
		return $error . ($hint ? ". $hint" : '') if ($error // '') eq ($seen->{error} // '');
		return 'read: ' . ($error // 'ok') . '; shown: ' . ($seen->{error} // 'ok');
	}
	my @read = @{ $read->{pages} // [] };
	my @pages = map { page_in_words($seen->{pages}[$_], $read[$_] ? trouble($read[$_]) : 'not read') }
	  0 .. $#{ $seen->{pages} };
	my %different = map { $_ => 1 } @pages;
	my $count = $read->{page_count} // @pages;
	return $pages[0] if $count == 1;
	return "$count pages, all $pages[0]" if keys %different == 1 && @pages > 1;
	return "$count pages: " . join '; ', @pages;
}

my $table = '';
for my $i (0 .. $#files)
{
	my $file = $files[$i];
	my $words = eval { in_words(decode_json($answers[$i] // '{}')) } // "no answer: $@";

	$file->{words} = $words;
	is(substr($words, 0, length $file->{expect}), $file->{expect}, "$file->{name}: $file->{what}");
	diag("$file->{name}: $words") unless index($words, $file->{expect}) == 0;
	$table .= "| `$file->{name}` | $file->{what} | " . ($words =~ s/\|/\\|/gr) . " |\n";
}

# The document holds this table.
if (my $path = $ENV{DSOCR_INPUTS_TABLE})
{
	my ($before) = slurp_file($document) =~ /\A(.*?\n)\| `/s;
	append_to_file($path, $before . $table);
}
else
{
	my %said = map { /^\| `(.*?)` \|/ ? ($1 => $_) : () } split /\n/, slurp_file($document);
	my %found = map { /^\| `(.*?)` \|/ ? ($1 => $_) : () } split /\n/, $table;
	is($found{$_}, $said{$_}, "docs/inputs.md: $_") for map { $_->{name} } @files;
	is(join(' ', grep { !$found{$_} } sort keys %said), '', 'docs/inputs.md has no other files');
}

# None of them cost a session, the engine or anything that is kept.
is(sql($node, "SELECT string_agg(device || ' ' || state || ' ' || restarts, ', ' ORDER BY device) FROM t.workers()"),
	'cpu ready 0, pages ready 0', 'nothing died');
is_at_baseline($node, 'nothing is left');
server_is_same($node, $started, 'no session was ended');
$node->stop;
done_testing();
