/*-------------------------------------------------------------------------
 *
 * cli_join_child.c
 *		The engine of a remote worker as a child process.
 *
 * It is `dsocr-engine serve` as the server starts it: documents are decoded
 * there, behind its sandbox, and when it dies nothing else does.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_join.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define END_PATIENCE_MS 3000
#define END_STEP_MS 20

/* Passwords of the database are not for who decodes documents. */
static void
forget_secrets(void)
{
	static const char *const names[] = {"PGPASSWORD", "PGPASSFILE", "PGSSLKEY", "PGSERVICEFILE"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		(void) unsetenv(names[i]);
}

bool
dsocr_join_child_start(DsocrJoinChild *c, char **argv, char *fd_text, size_t fd_size,
					   DsocrError *err)
{
	pid_t parent = getpid();
	int sockets[2];

	memset(c, 0, sizeof(*c));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)
		return dsocr_fail(err, DSOCR_E_IO, "could not create a socket: %s", strerror(errno));
	snprintf(fd_text, fd_size, "%d", sockets[1]);
	c->pid = fork();
	if (c->pid == 0)
	{
		forget_secrets();
		/* Ctrl-C is for the parent, which lets what is in flight come to its end. */
		(void) setsid();
		(void) fcntl(sockets[1], F_SETFD, 0);
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
			_exit(1);
		execv(argv[0], argv);
		_exit(127);
	}
	close(sockets[1]);
	if (c->pid < 0)
	{
		c->pid = 0;
		close(sockets[0]);
		return dsocr_fail(err, DSOCR_E_IO, "could not fork the engine: %s", strerror(errno));
	}
	if (!dsocr_channel_open(&c->channel, sockets[0], err))
	{
		kill(c->pid, SIGKILL);
		(void) waitpid(c->pid, NULL, 0);
		c->pid = 0;
		return false;
	}
	return true;
}

void
dsocr_join_child_end(DsocrJoinChild *c, bool in_order)
{
	if (c->pid == 0)
		return;
	if (in_order && dsocr_frame_simple(&c->channel.out, DSOCR_FRAME_SHUTDOWN, 0, NULL))
		(void) dsocr_channel_flush(&c->channel);
	dsocr_channel_close(&c->channel);
	for (int waited = 0; in_order && waited < END_PATIENCE_MS; waited += END_STEP_MS)
	{
		if (waitpid(c->pid, NULL, WNOHANG) != 0)
		{
			c->pid = 0;
			return;
		}
		usleep(END_STEP_MS * 1000);
	}
	kill(c->pid, SIGKILL);
	while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
		;
	c->pid = 0;
}
