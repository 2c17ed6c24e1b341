# A headless Chromium, spoken to by the DevTools protocol over a pipe.
package DsocrBrowser;

use strict;
use warnings;

use Fcntl qw(F_SETFD);
use IO::Select;
use JSON::PP;
use MIME::Base64;
use POSIX qw(dup2 _exit);
use Time::HiRes qw(time);

my $TIMEOUT = 60;

# Start it with a page of this size; undef when there is no Chromium.
sub start
{
	my ($class, %option) = @_;
	my ($program) = grep { -x } map { ("$_/chromium", "$_/chromium-browser", "$_/google-chrome") }
	  split /:/, "$ENV{PATH}:/usr/bin";
	return unless $program;

	pipe my $command_out, my $command_in or die "pipe: $!";
	pipe my $answer_out, my $answer_in or die "pipe: $!";
	my $pid = fork;
	die "fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		# The pipes become 3 and 4, whatever they are now.
		my @far = map { dup2(fileno($_->[0]), $_->[1]) } [ $command_out, 20 ], [ $answer_in, 21 ];
		dup2(20, 3);
		dup2(21, 4);
		POSIX::close($_) for 20, 21;
		open STDOUT, '>', '/dev/null';
		open STDERR, '>', $option{log} // '/dev/null';
		local $ENV{HOME} = $option{profile};
		exec $program, '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
		  '--remote-debugging-pipe', '--no-first-run', '--disable-background-networking',
		  '--disable-component-update', '--hide-scrollbars', "--user-data-dir=$option{profile}",
		  'about:blank'
		  or _exit(1);
	}
	close $command_out;
	close $answer_in;
	my $self = bless {
		pid => $pid,
		in => $command_in,
		out => $answer_out,
		buffer => '',
		id => 0,
		events => []
	}, $class;
	my ($target) =
	  grep { $_->{type} eq 'page' } @{ $self->call('Target.getTargets')->{targetInfos} };
	my $id = $target ? $target->{targetId}
	  : $self->call('Target.createTarget', { url => 'about:blank' })->{targetId};
	$self->{session} =
	  $self->call('Target.attachToTarget', { targetId => $id, flatten => JSON::PP::true })->{sessionId};
	$self->call($_) for qw(Page.enable Runtime.enable Log.enable Network.enable);
	$self->resize($option{width} // 1280, $option{height} // 900);
	return $self;
}

sub read_message
{
	my ($self, $until) = @_;
	my $select = IO::Select->new($self->{out});

	for (;;)
	{
		return decode_json($1) if $self->{buffer} =~ s/\A([^\0]*)\0//;
		die "the browser does not answer\n"
		  unless $select->can_read($until - time > 0 ? $until - time : 0);
		sysread $self->{out}, $self->{buffer}, 1 << 20, length $self->{buffer}
		  or die "the browser has gone\n";
	}
}

# Send a command and wait for its result; events that come meanwhile are kept.
sub call
{
	my ($self, $method, $params) = @_;
	my $id = ++$self->{id};
	my %command = (id => $id, method => $method, params => $params // {});
	my $until = time + $TIMEOUT;

	$command{sessionId} = $self->{session} if $self->{session};
	my $bytes = encode_json(\%command) . "\0";
	while (length $bytes)
	{
		my $n = syswrite($self->{in}, $bytes) or die "the browser does not listen: $!\n";
		substr $bytes, 0, $n, '';
	}
	for (;;)
	{
		my $message = $self->read_message($until);

		if (!defined $message->{id})
		{
			push @{ $self->{events} }, $message;
			next;
		}
		next unless $message->{id} == $id;
		die "$method: $message->{error}{message}\n" if $message->{error};
		return $message->{result};
	}
}

# Events of a kind since the last time, and wait for one if asked to.
sub events
{
	my ($self, $method, %option) = @_;
	my $until = time + $TIMEOUT;

	push @{ $self->{events} }, $self->read_message($until)
	  while $option{wait} && !grep { $_->{method} eq $method } @{ $self->{events} };
	my @found = grep { $_->{method} eq $method } @{ $self->{events} };
	$self->{events} = [ grep { $_->{method} ne $method } @{ $self->{events} } ];
	return @found;
}

sub resize
{
	my ($self, $width, $height) = @_;
	$self->call('Emulation.setDeviceMetricsOverride',
		{ width => $width, height => $height, deviceScaleFactor => 1, mobile => JSON::PP::false });
	return;
}

# Show a file and wait until it has loaded.
sub open_file
{
	my ($self, $path) = @_;

	$self->events('Page.loadEventFired');
	$self->call('Page.navigate', { url => "file://$path" });
	$self->events('Page.loadEventFired', wait => 1);
	return;
}

# The value of an expression of JavaScript; of a promise, what it comes to.
sub value
{
	my ($self, $expression) = @_;
	my $result = $self->call('Runtime.evaluate',
		{ expression => $expression, returnByValue => JSON::PP::true, awaitPromise => JSON::PP::true });

	die "$expression: $result->{exceptionDetails}{exception}{description}\n"
	  if $result->{exceptionDetails};
	return $result->{result}{value};
}

sub mouse
{
	my ($self, $type, $x, $y) = @_;
	$self->call('Input.dispatchMouseEvent',
		{ type => $type, x => $x, y => $y, button => 'left', clickCount => 1 });
	return;
}

sub press
{
	my ($self, $key) = @_;
	my %code = (Tab => 9, Enter => 13);

	$self->call('Input.dispatchKeyEvent',
		{ type => $_, key => $key, windowsVirtualKeyCode => $code{$key} })
	  for qw(rawKeyDown keyUp);
	return;
}

# A PNG of what is shown.
sub screenshot
{
	my ($self) = @_;
	return decode_base64($self->call('Page.captureScreenshot', { format => 'png' })->{data});
}

sub stop
{
	my ($self) = @_;

	return unless $self->{pid};
	kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
	$self->{pid} = undef;
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!);
	$self->stop;
	return;
}

1;
