# Files in and out of a server, for tests of what documents become.
package DsocrFiles;

use strict;
use warnings;

use Dsocr;
use Exporter 'import';
use IPC::Run qw(run);
use MIME::Base64;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(document_server fixture bytes_of bytea save program output_of report_layout);

# A server with the stand-in engine and the real page server, unless pages says "stub".
sub document_server
{
	my ($name, %option) = @_;
	return new_server($name, pages => 'real', %option);
}

# The path of a program, or undef.
sub program
{
	my ($name) = @_;
	my ($path) = grep { -x } map { "$_/$name" } split /:/, $ENV{PATH};
	return $path;
}

sub bytes_of
{
	my ($path) = @_;
	open my $file, '<:raw', $path or die "$path: $!";
	local $/;
	return scalar <$file>;
}

# A file of test/NAME, as bytes.
sub fixture
{
	my ($name) = @_;
	return bytes_of("$ENV{DSOCR_TOP}/test/$name");
}

# SQL for bytes.
sub bytea
{
	my ($bytes) = @_;
	return "decode('" . encode_base64($bytes, '') . "', 'base64')";
}

sub report_layout
{
	return fixture('documents/report.json');
}

# Run SQL that gives one bytea (or text) and write it to a file; its bytes.
sub save
{
	my ($node, $sql, $path, %option) = @_;
	my $value = $option{text} ? "convert_to(($sql), 'UTF8')" : "($sql)";
	my $bytes = decode_base64($node->safe_psql('postgres', "SELECT encode($value, 'base64')"));

	open my $file, '>:raw', $path or die "$path: $!";
	print $file $bytes;
	close $file;
	return $bytes;
}

# Standard output of a program that must succeed.
sub output_of
{
	my (@command) = @_;
	my ($out, $err);

	run \@command, '>', \$out, '2>', \$err or do
	{
		fail("@command");
		diag $err;
	};
	return $out;
}

1;
