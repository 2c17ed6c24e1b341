# Workers on other hosts, and a network between them and the server that can be cut.
package DsocrJoin;

use strict;
use warnings;

use Dsocr;
use DsocrSql;
use Exporter 'import';
use IO::Select;
use IO::Socket::INET;
use IPC::Run;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(can_join grant_join join_server job_state job_end conninfo start_worker end_worker worker_log claims
  start_proxy proxy_bytes cut_proxy mend_proxy end_proxy);

my $n_workers = 0;
my $n_proxies = 0;

# Is the engine built with libpq?
sub can_join
{
	return `dsocr-engine help` =~ /^  join /m;
}

# A role that may join and nothing else.
sub grant_join
{
	my ($node) = @_;

	sql($node, <<'END');
CREATE ROLE dsocr_remote LOGIN;
GRANT EXECUTE ON FUNCTION dsocr_worker_begin, dsocr_worker_keep, dsocr_worker_claim,
	dsocr_worker_fetch, dsocr_worker_pages, dsocr_worker_finish, dsocr_worker_release TO dsocr_remote;
END
	return;
}

# A server whose jobs are for workers on other hosts, and what to connect to.
sub join_server
{
	my ($name, %option) = @_;
	plan(skip_all => 'built without libpq') unless can_join();
	my $node = new_server($name, %option, conf => <<"END");
listen_addresses = '127.0.0.1'
dsocr.run_jobs = remote
dsocr.retry_delay = 100ms
dsocr.max_attempts = 2
@{[ $option{conf} // '' ]}
END

	grant_join($node);
	return ($node, conninfo($node));
}

# State, attempts and what went wrong.
sub job_state
{
	my ($node, $job) = @_;
	return sql($node, "SELECT state || ' ' || attempts || coalesce(' ' || sqlstate, '') FROM dsocr.jobs WHERE id = $job");
}

# The state in which a job ends.
sub job_end
{
	my ($node, $job) = @_;
	wait_until(sub { job_state($node, $job) !~ /^(queued|delayed)/ }, 60);
	return job_state($node, $job);
}

# Over the network: a socket in a folder has no peer that can vanish.
sub conninfo
{
	my ($node, %option) = @_;
	my $port = $option{port} // $node->port;

	return "host=127.0.0.1 port=$port user=dsocr_remote dbname=" . ($option{db} // 'postgres') . ' ' . ($option{more} // '');
}

sub start_worker
{
	my ($node, $conninfo, @options) = @_;
	my $log = PostgreSQL::Test::Utils::tempdir_short() . '/worker' . $n_workers++;
	my $worker = { log => $log };

	$worker->{run} = IPC::Run::start(
		[
			'dsocr-engine', 'join', '--engine', $ENV{DSOCR_STUB_ENGINE},
			'--model', $node->basedir . '/model-a', @options, $conninfo
		],
		'>', $log, '2>&1');
	$worker->{pid} = $worker->{run}{KIDS}[0]{PID};
	return $worker;
}

# Its exit status.
sub end_worker
{
	my ($worker, $signal) = @_;

	kill $signal, $worker->{pid} if $signal;
	$worker->{run}->finish;
	return $? >> 8;
}

sub worker_log
{
	my ($worker) = @_;
	return slurp_file($worker->{log});
}

# Jobs that are claimed, by remote workers and the runner of the server.
sub claims
{
	my ($node) = @_;
	return sql($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 4});
}

# ---- a network ----

# Carries bytes both ways; while the file "cut" is there it takes and gives none
# and closes nothing, as a network does that is gone.
sub carry
{
	my ($listener, $port, $cut) = @_;
	my ($bytes_down, $bytes_up, $told) = (0, 0, 0);
	my %is_far;
	my $select = IO::Select->new($listener);
	my %peer;

	while (1)
	{
		if (-e $cut)
		{
			select undef, undef, undef, 0.05;
			next;
		}
		if ($bytes_down + $bytes_up > $told)
		{
			$told = $bytes_down + $bytes_up;
			open my $file, '>', "$cut.new" or die "open: $!";
			print $file "$bytes_down $bytes_up\n";
			close $file;
			rename "$cut.new", "$cut.bytes";
		}
		for my $from ($select->can_read(0.05))
		{
			if ($from == $listener)
			{
				my $near = $listener->accept or next;
				my $far = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);
				if (!$far) { close $near; next; }
				@peer{ $near, $far } = ($far, $near);
				$is_far{$far} = 1;
				$select->add($near, $far);
				next;
			}
			my $to = $peer{$from} or next;
			my $sent = 0;
			my $bytes;
			if (!sysread($from, $bytes, 65536))
			{
				$select->remove($from, $to);
				delete @peer{ $from, $to };
				close $from;
				close $to;
				next;
			}
			while ($sent < length $bytes)
			{
				my $n = syswrite($to, $bytes, length($bytes) - $sent, $sent) or last;
				$sent += $n;
			}
			if ($is_far{$from}) { $bytes_down += $sent; }
			else { $bytes_up += $sent; }
		}
	}
	return;
}

sub start_proxy
{
	my ($node) = @_;
	my $cut = PostgreSQL::Test::Utils::tempdir_short() . '/cut' . $n_proxies++;
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 20, ReuseAddr => 1)
	  or die "could not listen: $!";
	my $pid = fork();

	if ($pid == 0)
	{
		$SIG{TERM} = 'DEFAULT';
		$SIG{PIPE} = 'IGNORE';
		carry($listener, $node->port, $cut);
		POSIX::_exit(0);
	}
	return { pid => $pid, cut => $cut, port => $listener->sockport };
}

# Bytes that it has carried from the server, and to it.
sub proxy_bytes
{
	my ($p) = @_;
	return -e "$p->{cut}.bytes" ? split / /, slurp_file("$p->{cut}.bytes") =~ s/\n//r : (0, 0);
}

sub cut_proxy { my ($p) = @_; append_to_file($p->{cut}, ''); return; }
sub mend_proxy { my ($p) = @_; unlink $p->{cut}; return; }

sub end_proxy
{
	my ($p) = @_;
	kill 'KILL', $p->{pid};
	waitpid $p->{pid}, 0;
	return;
}

1;
