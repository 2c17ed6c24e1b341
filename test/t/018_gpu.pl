# A GPU, emulated: pages are read on it, a device that breaks or hangs costs an
# engine and no session, one that is not there is waited for.
use strict;
use warnings;

use Dsocr;
use PostgreSQL::Test::Utils;
use Test::More;

my $library = $ENV{DSOCR_EMULATED} // '';
plan skip_all => 'the CUDA backend was not built for the host' unless -r $library;

my $top = $ENV{DSOCR_TOP};
my $image = "$top/test/samples/letter.png";
my ($program) = grep { -x } map { "$_/dsocr-engine" } split /:/, $ENV{PATH};
my $page = "dsocr_text(pg_read_binary_file('$image'))";

# A server whose engine is the real one, with the small reference model.
sub gpu_server
{
	my ($name, $conf) = @_;
	return new_server($name, no_wait => 1, conf => <<"END");
dsocr.engine_path = '$program'
dsocr.model = '$top/build/golden/tiny-a'
dsocr.mode = tiny
dsocr.max_tokens = 6
dsocr.gpu_memory = 200MB
dsocr.max_sequences = 4
$conf
END
}

# An engine that has a fault the first time it is started.
sub faulty_once
{
	my ($dir, $fault) = @_;
	mkdir $dir or die;
	append_to_file("$dir/engine", "#!/bin/sh\nmkdir $dir/once 2>/dev/null && export $fault\nexec $program \"\$@\"\n");
	chmod 0755, "$dir/engine" or die;
	return "dsocr.engine_path = '$dir/engine'\n";
}

sub worker
{
	my ($node, $columns) = @_;
	return $node->safe_psql('postgres', "SELECT $columns FROM t.workers()");
}

$ENV{DSOCR_CUDA_LIBRARY} = $library;
chomp(my $text = `$program ocr --device cuda:0 --model $top/build/golden/tiny-a --task text --mode tiny --max-tokens 6 $image`);
isnt($text, '', 'the program alone reads');
chomp(my $on_cpu = `$program ocr --device cpu --model $top/build/golden/tiny-a --task text --mode tiny --max-tokens 6 $image`);

# Read on the device, alone and together.
my $node = gpu_server('gpu', "dsocr.devices = 'cuda:0'");
wait_for_ready($node);
like(worker($node, 'description'), qr/^cuda:0 \(emulated/, 'the device is described');
like(worker($node, 'sandbox'), qr/no_new_privs,rlimits/, 'its engine is closed');
is($node->safe_psql('postgres', "SELECT $page"), $text, 'a page is read as by the program alone');
my @both = map { begin_sql($node, "SELECT $page") } 1 .. 2;
is((end_sql($_))[1], $text, 'and together with another') for @both;
unlike(slurp_file($node->logfile), qr/engine.*(killed|exited)/, 'no engine has ended');

# More memory than it has is refused with the figures; a reload mends it.
my $engine = engine_pid($node);
$node->append_conf('postgresql.conf', "dsocr.gpu_memory = 100GB");
$node->reload;
$node->poll_query_until('postgres', "SELECT state = 'degraded' AND error IS NOT NULL FROM t.workers()");
like(worker($node, 'error'), qr/\d+ MB of free memory, 102400 MB are wanted/, 'too much memory');
like(worker($node, 'hint'), qr/dsocr\.gpu_memory/, 'and a hint');
$node->append_conf('postgresql.conf', "dsocr.gpu_memory = 0\ndsocr.max_sequences = 2");
$node->reload;
ok(wait_for_ready($node), 'ready after a reload');
isnt(engine_pid($node), $engine, 'with another engine');
is($node->safe_psql('postgres', "SELECT $page"), $text, 'which reads the same');
$node->stop;

# It breaks, it hangs: another engine takes over.
for my $fault ([ 'breaks', 'DSOCR_EMU_FAIL_STICKY=100', qr/illegal memory access/ ],
	[ 'hangs', 'DSOCR_CUDA_TIMEOUT=1 DSOCR_EMU_HANG=100', qr/did not finish .* within 1 s/ ])
{
	my ($what, $setting, $said) = @$fault;
	my $dir = PostgreSQL::Test::Utils::tempdir_short() . "/$what";
	$node = gpu_server($what, "dsocr.devices = 'cuda:0'\n" . faulty_once($dir, $setting));
	wait_for_ready($node);
	$engine = engine_pid($node);
	my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
	is($node->safe_psql('postgres', "SELECT $page"), $text, "a page is read although the device $what");
	isnt(engine_pid($node), $engine, 'by another engine');
	ok(!alive($engine), 'the first one has ended');
	like(slurp_file($node->logfile), $said, 'the log says why');
	server_is_same($node, $started, 'the server goes on');
	$node->stop;
}

# Not there: the reason, and it is used when it comes.
my $later = PostgreSQL::Test::Utils::tempdir_short() . '/dsocr_cuda.so';
$ENV{DSOCR_CUDA_LIBRARY} = $later;
$node = gpu_server('later', "dsocr.devices = 'cuda:0'");
$node->poll_query_until('postgres', "SELECT state = 'degraded' AND error IS NOT NULL FROM t.workers()");
like(worker($node, 'error'), qr/could not load the CUDA backend/, 'the reason');
like(worker($node, 'hint'), qr/dsocr_cuda\.so/, 'and a hint');
$node->poll_query_until('postgres', "SELECT restarts >= 4 FROM t.workers()");
my ($rc, $out, $err) = $node->psql('postgres', "SELECT $page");
like($err, qr/could not load the CUDA backend/, 'requests fail with it');
symlink $library, $later or die;
$node->reload;
ok(wait_for_ready($node), 'ready when the library is there');
is($node->safe_psql('postgres', "SELECT $page"), $text, 'and reads');
$node->stop;

# "auto" does with what there is.
for my $case ([ 'with', $library, qr/^auto cuda:0 \(emulated/, 0, $text ],
	[ 'without', '/nonexistent/dsocr_cuda.so', qr/^auto cpu \(/, 1, $on_cpu ])
{
	my ($name, $path, $said, $lines, $read) = @$case;
	$ENV{DSOCR_CUDA_LIBRARY} = $path;
	$node = gpu_server("auto_$name", "dsocr.devices = 'auto'");
	wait_for_ready($node);
	like(worker($node, "device || ' ' || description"), $said, "auto $name a GPU");
	is(() = slurp_file($node->logfile) =~ /"auto" is the CPU/g, $lines, 'said once, if at all');
	is($node->safe_psql('postgres', "SELECT $page"), $read, 'and reads');
	$node->stop;
}

done_testing();
