# Servers with dsocr and its stand-in engine, for the tests in this folder.
package Dsocr;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(new_server stub_environment image reading begin_sql end_sql wait_until waiting
  engine_pid wait_for_ready alive is_at_baseline server_is_same);

# Settings for the stand-in engine of servers started from now on.
sub stub_environment
{
	my ($commands) = @_;
	$ENV{DSOCR_STUB} = $commands;
	return;
}

# Where the page server is, or its stand-in beside that of the engine.
sub pages_program
{
	my ($which) = @_;

	return $ENV{DSOCR_STUB_ENGINE} =~ s/stub_engine$/stub_pages/r if $which eq 'stub';
	for my $folder (split /:/, $ENV{PATH})
	{
		return "$folder/dsocr-pages" if -x "$folder/dsocr-pages";
	}
	die 'dsocr-pages was not found';
}

# A running server with the extension; conf is appended to its configuration.
# It has a page server if pages says so: "stub" or "real"; answers are kept
# only where cache gives the size: tests read the same image again and again.
sub new_server
{
	my ($name, %option) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $model = $node->basedir . '/model-a';

	$node->init(%{ $option{init} // {} });
	mkdir $model or die "mkdir $model: $!";
	$node->append_conf('postgresql.conf',
		"dsocr.page_server = on\ndsocr.pages_path = '" . pages_program($option{pages}) . "'\n")
	  if $option{pages};
	$node->append_conf('postgresql.conf', "dsocr.page_server = off\n") unless $option{pages};
	$node->append_conf('postgresql.conf', <<"END");
shared_preload_libraries = 'dsocr'
dsocr.engine_path = '$ENV{DSOCR_STUB_ENGINE}'
dsocr.model = '$model'
log_min_messages = info
restart_after_crash = on
dsocr.cache_size = @{[ $option{cache} // 0 ]}
log_statement = none
@{[ $option{conf} // '' ]}
END
	return $node if $option{stopped};
	$node->start;
	create_extension($node);
	wait_for_ready($node) unless $option{no_wait};
	return $node;
}

# The extension, and the C functions under names that only tests use.
sub create_extension
{
	my ($node) = @_;

	$node->safe_psql('postgres', <<'END');
CREATE EXTENSION dsocr;
CREATE SCHEMA t;
CREATE FUNCTION t.status(OUT version text, OUT workers int4, OUT ready int4, OUT slots int4,
	OUT slots_used int4, OUT waiting int4, OUT queue_memory int8, OUT queue_memory_used int8,
	OUT model text, OUT cache_size int8, OUT cache_used int8, OUT cache_entries int8, OUT cache_evicted int8) RETURNS SETOF record LANGUAGE c AS 'dsocr', 'dsocr_status';
CREATE FUNCTION t.workers(OUT device text, OUT state text, OUT pid int4, OUT engine_pid int4,
	OUT model text, OUT fingerprint text, OUT weights text, OUT sandbox text,
	OUT memory_bytes int8, OUT private_bytes int8, OUT queued int4, OUT running int4, OUT tokens_per_second float8,
	OUT restarts int8, OUT started_at timestamptz, OUT error text, OUT hint text,
	OUT description text)
	RETURNS SETOF record LANGUAGE c AS 'dsocr', 'dsocr_workers';
CREATE FUNCTION t.requests(OUT slot int4, OUT pid int4, OUT role oid, OUT database oid,
	OUT state text, OUT task text, OUT mode text, OUT page int4, OUT pages int4, OUT device text, OUT views_done int4,
	OUT views int4, OUT image_tokens int4, OUT text_tokens int4, OUT age interval,
	OUT attempts int4, OUT waits_for int4) RETURNS SETOF record LANGUAGE c AS 'dsocr', 'dsocr_requests';
CREATE FUNCTION t.stats(OUT device text, OUT completed int8, OUT failed int8,
	OUT cancelled int8, OUT retried int8, OUT cache_hits int8, OUT image_tokens int8, OUT text_tokens int8,
	OUT waited_ms float8, OUT preprocess_ms float8, OUT encode_ms float8, OUT prefill_ms float8,
	OUT decode_ms float8, OUT p50_ms float8, OUT p95_ms float8, OUT p99_ms float8,
	OUT max_ms float8, OUT since timestamptz) RETURNS SETOF record LANGUAGE c
	AS 'dsocr', 'dsocr_stats';
CREATE FUNCTION t.reset() RETURNS void LANGUAGE c AS 'dsocr', 'dsocr_stats_reset_all';
CREATE FUNCTION t.reload() RETURNS int4 LANGUAGE c AS 'dsocr', 'dsocr_reload';
END
	return;
}

# SQL for an image with commands for the stand-in engine.
sub image
{
	my ($commands) = @_;
	$commands =~ s/'/''/g;
	return "convert_to('STUB:$commands', 'UTF8')";
}

# SQL that reads it.
sub reading
{
	my ($commands) = @_;
	return 'SELECT dsocr_generate(' . image($commands) . ", 'Free OCR.')";
}

# Run SQL in a session of its own, in the background.
sub begin_sql
{
	my ($node, $sql, %option) = @_;
	my $base = PostgreSQL::Test::Utils::tempdir_short() . '/session';
	my $session = { out => "$base.out", err => "$base.err" };
	my @command = (
		'psql', '-XAtq', '-v', 'ON_ERROR_STOP=' . ($option{go_on} ? 0 : 1),
		'-d', $node->connstr($option{db} // 'postgres') . ' user=' . ($option{user} // getpwuid($<)));

	# Files, not strings: nobody pumps while the session runs.
	append_to_file("$base.sql", $sql);
	$session->{run} =
	  IPC::Run::start(\@command, '<', "$base.sql", '>', $session->{out}, '2>', $session->{err});
	return $session;
}

# Wait for it: exit status, output, error output.
sub end_sql
{
	my ($session) = @_;

	$session->{run}->finish;
	my $out = slurp_file($session->{out});
	chomp $out;
	return ($session->{run}->full_result(0) >> 8, $out, slurp_file($session->{err}));
}

# Poll until the code gives true; seconds it took, or undef.
sub wait_until
{
	my ($code, $seconds) = @_;
	my $start = time;

	while (time - $start < ($seconds // 30))
	{
		return time - $start + 1e-6 if $code->();
		usleep(20_000);
	}
	return;
}

# Poll until so many sessions wait for dsocr; their statements contain the text.
sub waiting
{
	my ($node, $n, $text) = @_;
	my $query = "SELECT count(*) >= $n FROM pg_stat_activity WHERE wait_event_type = 'Extension'"
	  . " AND query LIKE '%$text%' AND pid <> pg_backend_pid()";

	return $node->poll_query_until('postgres', $query);
}

sub engine_pid
{
	my ($node) = @_;
	return $node->safe_psql('postgres', 'SELECT max(engine_pid) FROM t.workers()');
}

sub wait_for_ready
{
	my ($node) = @_;
	return $node->poll_query_until('postgres',
		"SELECT bool_and(state = 'ready') FROM t.workers()");
}

sub alive
{
	my ($pid) = @_;
	return 0 unless $pid && -e "/proc/$pid/stat";

	# a zombie has ended
	open my $stat, '<', "/proc/$pid/stat" or return 0;
	my $line = <$stat> // '';
	close $stat;
	return $line =~ /\)\s+[^ZX]/ ? 1 : 0;
}

# Nothing is in use: no slot, no byte, nobody in line.
sub is_at_baseline
{
	my ($node, $name) = @_;
	my $query = "SELECT slots_used || ' ' || queue_memory_used || ' ' || waiting FROM t.status()";

	wait_until(sub { $node->safe_psql('postgres', $query) eq '0 0 0' }, 15);
	return is($node->safe_psql('postgres', $query), '0 0 0', $name);
}

# No process of the server has been restarted since the given time.
sub server_is_same
{
	my ($node, $started, $name) = @_;

	is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started, $name);
	return unlike(slurp_file($node->logfile), qr/terminating any other active server processes/,
		"$name: no session was ended");
}

1;
