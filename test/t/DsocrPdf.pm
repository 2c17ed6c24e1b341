# Documents of any number of pages, written by hand.
package DsocrPdf;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(pdf_file tiff_file load_file process_tree);

# A PDF whose page N is 100 + N by 50 points, so that no two images have as many bytes.
sub pdf_file
{
	my ($path, $pages) = @_;
	my @objects = ('<< /Type /Catalog /Pages 2 0 R >>');
	my @kids = map { ($_ + 3) . ' 0 R' } 0 .. $pages - 1;
	my $out = "%PDF-1.4\n";
	my @at;

	push @objects, "<< /Type /Pages /Count $pages /Kids [@kids] >>";
	for my $page (1 .. $pages)
	{
		push @objects, '<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ' . (100 + $page) . ' 50] >>';
	}
	for my $i (0 .. $#objects)
	{
		push @at, length $out;
		$out .= ($i + 1) . " 0 obj\n$objects[$i]\nendobj\n";
	}
	my $xref = length $out;
	$out .= 'xref' . "\n0 " . (@objects + 1) . "\n0000000000 65535 f \n";
	$out .= sprintf "%010d 00000 n \n", $_ for @at;
	$out .= 'trailer << /Size ' . (@objects + 1) . " /Root 1 0 R >>\nstartxref\n$xref\n%%EOF\n";
	return write_file($path, $out);
}

# A TIFF of white pages without compression; page N is 100 + N by 50 pixels.
sub tiff_file
{
	my ($path, $pages) = @_;
	my $out = pack 'a2vV', 'II', 42, 8;

	for my $page (1 .. $pages)
	{
		my $width = 100 + $page;
		my @tags = ([256, 3, $width], [257, 3, 50], [258, 3, 8], [259, 3, 1], [262, 3, 1], [273, 4, 0],
			[277, 3, 1], [278, 3, 50], [279, 4, $width * 50]);
		my $data = length($out) + 2 + 12 * @tags + 4;

		$tags[5][2] = $data;
		$out .= pack 'v', scalar @tags;
		$out .= pack 'vvVV', $_->[0], $_->[1], 1, $_->[2] for @tags;
		$out .= pack 'V', $page < $pages ? $data + $width * 50 : 0;
		$out .= "\xff" x ($width * 50);
	}
	return write_file($path, $out);
}

sub write_file
{
	my ($path, $bytes) = @_;

	open my $file, '>:raw', $path or die "$path: $!";
	print $file $bytes or die "$path: $!";
	close $file or die "$path: $!";
	return $path;
}

# Into table document, under a name.
sub load_file
{
	my ($node, $name, $path) = @_;

	return $node->safe_psql('postgres', "CREATE TABLE IF NOT EXISTS document (name text, bytes bytea);
		INSERT INTO document VALUES ('$name', pg_read_binary_file('$path'))");
}

# A process and all below it: pid => { name, parent, private memory in bytes }.
sub process_tree
{
	my ($root) = @_;
	my %all;
	my %tree;

	for my $dir (glob '/proc/[0-9]*')
	{
		open my $file, '<', "$dir/status" or next;
		local $/;
		my $status = <$file> // next;
		my ($pid) = $dir =~ /(\d+)$/;
		my ($kb) = $status =~ /^RssAnon:\s+(\d+)/m;
		$all{$pid} = { name => $status =~ /^Name:\s+(.*)/m, parent => $status =~ /^PPid:\s+(\d+)/m,
			memory => 1024 * ($kb // 0) };
	}
	for my $pid (keys %all)
	{
		my $up = $pid;
		$up = $all{$up}{parent} while $up != $root && $all{$up};
		$tree{$pid} = $all{$pid} if $up == $root;
	}
	return %tree;
}

1;
