# What a picture shows: its colours in the middle of each quarter.
package DsocrPicture;

use strict;
use warnings;

use Compress::Zlib;
use Exporter 'import';

our @EXPORT = qw(quarters);

my %names = (red => [ 255, 0, 0 ], green => [ 0, 255, 0 ], blue => [ 0, 0, 255 ], white => [ 255, 255, 255 ],
	black => [ 0, 0, 0 ], dark => [ 85, 85, 85 ], light => [ 170, 170, 170 ]);
my $tolerance = 12; # of a lossy format

# The name of a colour, or its numbers.
sub colour
{
	my ($rgb) = @_;

	for my $name (sort keys %names)
	{
		return $name unless grep { abs($rgb->[$_] - $names{$name}[$_]) > $tolerance } 0 .. 2;
	}
	return sprintf '#%02x%02x%02x', @$rgb;
}

# The rows of a PNG that is not interlaced, each an array of samples of 8 bits, and samples a pixel.
sub rows
{
	my ($png) = @_;
	my ($width, $height, $depth, $type, undef, undef, $interlaced) = unpack 'x16NNCCCCC', $png;
	my $n = { 0 => 1, 2 => 3, 3 => 1, 4 => 2, 6 => 4 }->{$type} // die "color type $type";
	my ($data, $at, @palette, @rows) = ('', 8);

	die "depth $depth, interlaced $interlaced" if $depth > 8 || $interlaced;
	while ($at < length $png)
	{
		my ($len, $name) = unpack 'Na4', substr $png, $at, 8;
		my $chunk = substr $png, $at + 8, $len;
		$data .= $chunk if $name eq 'IDAT';
		@palette = map { [ unpack 'C3', $_ ] } $chunk =~ /.../gs if $name eq 'PLTE';
		$at += $len + 12;
	}
	$data = uncompress($data);
	my $bytes = int(($width * $n * $depth + 7) / 8);
	my @above = (0) x $bytes;
	for my $y (0 .. $height - 1)
	{
		my ($filter, @row) = unpack 'C*', substr $data, $y * ($bytes + 1), $bytes + 1;
		unfilter($filter, \@row, \@above, $depth < 8 ? 1 : $n);
		@above = @row;
		@row = unpacked(\@row, $depth, $width * $n, $type == 3 ? 1 : 255 / ((1 << $depth) - 1)) if $depth < 8;
		@row = map { @{ $palette[$_] } } @row if $type == 3;
		push @rows, \@row;
	}
	return (\@rows, $type == 3 ? 3 : $n);
}

# Samples of less than a byte.
sub unpacked
{
	my ($row, $depth, $n, $scale) = @_;
	my $per = 8 / $depth;

	return map { (($row->[ $_ / $per ] >> (8 - $depth - $_ % $per * $depth)) & ((1 << $depth) - 1)) * $scale } 0 .. $n - 1;
}

sub unfilter
{
	my ($filter, $row, $above, $n) = @_;

	for my $i (0 .. $#$row)
	{
		my $left = $i < $n ? 0 : $row->[ $i - $n ];
		my ($up, $corner) = ($above->[$i], $i < $n ? 0 : $above->[ $i - $n ]);
		my ($a, $b, $c) = map { abs($left + $up - $corner - $_) } $left, $up, $corner;
		my $paeth = $a <= $b && $a <= $c ? $left : $b <= $c ? $up : $corner;
		my $guess = (0, $left, $up, ($left + $up) >> 1, $paeth)[$filter];

		$row->[$i] = ($row->[$i] + $guess) & 255;
	}
	return;
}

# "red green / blue white", or one colour where it is everywhere.
sub quarters
{
	my ($png) = @_;
	my ($rows, $n) = rows($png);
	my @found;

	for my $y (1, 3)
	{
		for my $x (1, 3)
		{
			my $row = $rows->[ @$rows * $y / 4 ];
			my $at = $n * int(@$row / $n * $x / 4);
			push @found, colour([ map { $row->[ $at + ($n < 3 ? 0 : $_) ] } 0 .. 2 ]);
		}
	}
	return "$found[0] $found[1] / $found[2] $found[3]";
}

1;
