# Folders of documents, and dsocr-engine load.
package DsocrLoad;

use strict;
use warnings;

use Exporter 'import';
use File::Path qw(make_path);
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(can_load document put load_files begin_load end_load kill_load load_log);

my $n_loads = 0;

# Is the engine built with libpq?
sub can_load
{
	return `dsocr-engine help` =~ /^  load /m;
}

# An image for the stand-in engine, which looks like one from outside, too.
sub document
{
	my ($commands) = @_;
	return "P5\n8 8\n255\nSTUB:$commands";
}

# A file in a folder, with the folders above it.
sub put
{
	my ($dir, $name, $bytes) = @_;
	my $path = "$dir/$name";

	make_path($path =~ s{/[^/]*$}{}r);
	open my $file, '>:raw', $path or die "$path: $!";
	print $file $bytes;
	close $file;
	return $path;
}

sub command_of
{
	my ($node, @arguments) = @_;
	return ('dsocr-engine', 'load', '--dbname', $node->connstr('postgres'), @arguments);
}

# Run one to its end: exit status, output, error output.
sub load_files
{
	my ($node, @arguments) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ command_of($node, @arguments) ], '<', \undef, '>', \$out, '2>', \$err);
	return ($? & 127 ? "signal $?" : $? >> 8, $out, $err);
}

sub begin_load
{
	my ($node, @arguments) = @_;
	my $log = PostgreSQL::Test::Utils::tempdir_short() . '/load' . $n_loads++;
	my $load = { log => $log };

	$load->{run} = IPC::Run::start([ command_of($node, @arguments) ], '<', \undef, '>', $log, '2>&1');
	$load->{pid} = $load->{run}{KIDS}[0]{PID};
	return $load;
}

sub kill_load { my ($load, $signal) = @_; return kill $signal, $load->{pid}; }

# Its exit status.
sub end_load
{
	my ($load) = @_;

	$load->{run}->finish;
	my $status = $load->{run}->full_result(0);
	return $status & 127 ? 'signal ' . ($status & 127) : $status >> 8;
}

sub load_log
{
	my ($load) = @_;
	return slurp_file($load->{log});
}

1;
