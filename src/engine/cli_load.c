/*-------------------------------------------------------------------------
 *
 * cli_load.c
 *		dsocr-engine load: options, batches of files, waiting for their texts.
 *
 *-------------------------------------------------------------------------
 */
#include "cli.h"

#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli_load.h"

#define POLL_MS 500
#define MAX_FAILURES_SHOWN 20
#define MAX_SKIPPED_SHOWN 20
#define SILENCE_S 60

enum
{
	STATUS_DONE,
	STATUS_SOME_FAILED,
	STATUS_USAGE,
	STATUS_DATABASE
};

static const char usage[] =
	"usage: dsocr-engine load [options] --table NAME FOLDER\n"
	"Loads images and PDF documents into a table: each file of the folder, and of those\n"
	"below it, becomes a row.  Files whose path is there already are passed over, so\n"
	"the same command goes on with what was interrupted.\n"
	"\n"
	"  FOLDER                 or one file\n"
	"  --table NAME           as in SQL: scans, archive.scans, '\"My scans\"'\n"
	"  --dbname CONNINFO      of libpq; what it does not say comes from PGHOST, PGDATABASE, ...\n"
	"  --path-column NAME     of type text: the path below FOLDER (path)\n"
	"  --image-column NAME    of type bytea (image)\n"
	"  --prefix TEXT          before each path\n"
	"  --create               make the table if it is missing\n"
	"  --attach               have its documents read, as by dsocr_attach, if they are not yet\n"
	"  --side-table NAME      with --attach: where texts go (that of the table with _pages)\n"
	"  --text-column NAME     with --attach: a column for texts instead\n"
	"  --language NAME        with --attach: text search configuration (simple)\n"
	"  --no-wait              do not wait until all documents of an attached table are read\n"
	"  --batch-rows N         files that are committed together (100)\n"
	"  --batch-bytes N        most bytes of them (64000000)\n"
	"  --max-bytes N          larger files are not loaded (what the server reads)\n"
	"  --any                  load files that are no images and no PDF, too\n"
	"  --follow               follow symbolic links\n"
	"  --lines S              seconds between lines where there is no terminal (10)\n"
	"\n"
	"The first SIGINT or SIGTERM commits what is in hand, the second does not.\n"
	"Exit status: 0 done, 1 some files could not be loaded or read, 2 wrong usage,\n"
	"3 trouble with the database, 128 + the number of the signal after one.\n";

volatile sig_atomic_t dsocr_load_stop = 0;

/* ---- what is seen ---- */

static void
handle_stop(int sig)
{
	if (dsocr_load_stop != 0)
		_exit(128 + sig);
	dsocr_load_stop = sig;
}

void
dsocr_load_tell(void *arg, DsocrLoadState state, const char *path, const char *why)
{
	DsocrLoad *l = arg;

	l->counts[state]++;
	if (state == DSOCR_LOAD_SKIPPED && l->counts[state] > MAX_SKIPPED_SHOWN)
	{
		if (l->counts[state] == MAX_SKIPPED_SHOWN + 1)
			dsocr_load_say(&l->show, "what else is skipped is only counted");
		return;
	}
	dsocr_load_say(&l->show, "%s: \"%s\": %s", state == DSOCR_LOAD_FAILED ? "failed" : "skipped",
				   path, why);
}

static int
complain(DsocrLoad *l, const DsocrError *err)
{
	dsocr_load_say(&l->show, "%s%s%s", err->message, err->hint[0] != '\0' ? "; " : "", err->hint);
	return STATUS_DATABASE;
}

/* ---- waiting ---- */

static void
show_reading(DsocrLoad *l, const DsocrLoadProgress *p, const DsocrLoadProgress *before)
{
	int64_t done = p->done - before->done;
	int64_t failed = p->failed - before->failed;
	int64_t all = done + failed + p->queued;
	char left[32];
	char text[200];

	dsocr_load_time(left, sizeof(left), p->rate > 0 ? p->left : -1);
	snprintf(text, sizeof(text), "%lld/%lld%s documents, %lld pages, %.1f/s, %s left, %lld failed",
			 (long long) (done + failed), (long long) all, p->preparing ? "+" : "",
			 (long long) (p->pages - before->pages), p->rate, left, (long long) failed);
	dsocr_load_show(&l->show, "reading", all > 0 ? (double) (done + failed) / (double) all : 0,
					text);
}

/* Until there is nothing left in the queue; before is how it was at the start. */
static int
wait_for_texts(DsocrLoad *l, const DsocrLoadProgress *before)
{
	DsocrLoadProgress p = *before;
	DsocrError err = {0};
	int64_t last = -1;
	int64_t news_us = dsocr_now_us();

	while (dsocr_load_stop == 0)
	{
		if (!dsocr_load_db_progress(l->db, &p, &err))
			return complain(l, &err);
		if (!p.attached || (p.queued == 0 && !p.preparing))
			break;
		if (!p.runs)
		{
			dsocr_load_say(&l->show, "documents are queued, but dsocr.run_jobs is off");
			break;
		}
		if (p.done + p.failed != last)
		{
			last = p.done + p.failed;
			news_us = dsocr_now_us();
		}
		else if (dsocr_now_us() - news_us > (int64_t) SILENCE_S * 1000000)
		{
			dsocr_load_say(&l->show,
						   "nothing was read for %d s; the view dsocr.workers may say why",
						   SILENCE_S);
			news_us = dsocr_now_us();
		}
		show_reading(l, &p, before);
		poll(NULL, 0, POLL_MS);
	}
	dsocr_load_show_end(&l->show);
	if (p.failed > before->failed &&
		!dsocr_load_db_failures(l->db, MAX_FAILURES_SHOWN, dsocr_load_tell, l, &err))
		return complain(l, &err);
	printf("read %lld documents, %lld pages; %lld failed%s\n", (long long) (p.done - before->done),
		   (long long) (p.pages - before->pages), (long long) (p.failed - before->failed),
		   p.queued > 0 ? "; the others are read without us" : "");
	return p.failed > before->failed ? STATUS_SOME_FAILED : STATUS_DONE;
}

/* ---- all of it ---- */

static void
print_sum(const DsocrLoad *l)
{
	printf("loaded %lld files, %.1f MB; %lld were there, %lld skipped, %lld failed\n",
		   (long long) l->counts[DSOCR_LOAD_LOADED], (double) l->loaded_bytes / 1e6,
		   (long long) l->counts[DSOCR_LOAD_THERE], (long long) l->counts[DSOCR_LOAD_SKIPPED],
		   (long long) l->counts[DSOCR_LOAD_FAILED]);
	fflush(stdout);
}

static int
run(DsocrLoad *l)
{
	DsocrLoadProgress before;
	DsocrError err = {0};
	int status;

	if (!dsocr_load_walk(l->root, l->follow, dsocr_load_tell, l, &l->files, &err))
	{
		complain(l, &err);
		return STATUS_USAGE;
	}
	l->db = dsocr_load_db_open(&l->target, &err);
	if (l->db == NULL || !dsocr_load_db_progress(l->db, &before, &err))
		return complain(l, &err);
	if (l->max_bytes == 0)
		l->max_bytes = dsocr_load_db_max_bytes(l->db);
	if (l->max_bytes <= 0 || l->max_bytes > DSOCR_LOAD_MAX_BYTES)
		l->max_bytes = DSOCR_LOAD_MAX_BYTES;
	if (!dsocr_load_db_is_unique(l->db))
		dsocr_load_say(
			&l->show,
			"column \"%s\" has no unique index, by which files that are there are found fast",
			l->target.path_column);
	status = dsocr_load_all(l, &err) ? STATUS_DONE : complain(l, &err);
	dsocr_load_show_end(&l->show);
	print_sum(l);
	if (dsocr_load_stop != 0)
		dsocr_load_say(&l->show, "interrupted; the same command goes on");
	if (status == STATUS_DONE && l->counts[DSOCR_LOAD_FAILED] > 0)
		status = STATUS_SOME_FAILED;
	if (status <= STATUS_SOME_FAILED && before.attached && !l->no_wait && dsocr_load_stop == 0)
	{
		int waited = wait_for_texts(l, &before);

		status = waited > status ? waited : status;
	}
	return dsocr_load_stop != 0 ? 128 + dsocr_load_stop : status;
}

/* ---- options ---- */

static const struct option options[] = {
	{"table", required_argument, NULL, 't'},
	{"dbname", required_argument, NULL, 'd'},
	{"path-column", required_argument, NULL, 'p'},
	{"image-column", required_argument, NULL, 'i'},
	{"prefix", required_argument, NULL, 'x'},
	{"create", no_argument, NULL, 'c'},
	{"attach", no_argument, NULL, 'a'},
	{"side-table", required_argument, NULL, 's'},
	{"text-column", required_argument, NULL, 'e'},
	{"language", required_argument, NULL, 'l'},
	{"no-wait", no_argument, NULL, 'w'},
	{"batch-rows", required_argument, NULL, 'r'},
	{"batch-bytes", required_argument, NULL, 'b'},
	{"max-bytes", required_argument, NULL, 'm'},
	{"any", no_argument, NULL, 'y'},
	{"follow", no_argument, NULL, 'f'},
	{"lines", required_argument, NULL, 'n'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static bool
take_text(DsocrLoad *l, int c, const char *value)
{
	const struct
	{
		int c;
		const char **text;
	} texts[] = {
		{'t', &l->target.table},		{'d', &l->target.conninfo}, {'p', &l->target.path_column},
		{'i', &l->target.image_column}, {'x', &l->prefix},			{'s', &l->target.side_table},
		{'e', &l->target.text_column},	{'l', &l->target.language},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		if (texts[i].c == c)
		{
			*texts[i].text = value;
			return true;
		}
	}
	return false;
}

static bool
take_option(DsocrLoad *l, int c, const char *value)
{
	switch (c)
	{
		case 'c':
			l->target.create = true;
			return true;
		case 'a':
			l->target.attach = true;
			return true;
		case 'w':
			l->no_wait = true;
			return true;
		case 'y':
			l->any = true;
			return true;
		case 'f':
			l->follow = true;
			return true;
		case 'r':
			return dsocr_cli_number("batch-rows", value, 1, DSOCR_LOAD_MAX_ROWS, &l->batch_rows);
		case 'b':
			return dsocr_cli_number("batch-bytes", value, 1, LLONG_MAX, &l->batch_bytes);
		case 'm':
			return dsocr_cli_number("max-bytes", value, 1, DSOCR_LOAD_MAX_BYTES, &l->max_bytes);
		case 'n':
			return dsocr_cli_number("lines", value, 1, 86400, &l->lines);
		default:
			return take_text(l, c, value);
	}
}

/* -1: go on; else the exit status. */
static int
take_options(DsocrLoad *l, int argc, char **argv)
{
	const DsocrLoadTarget *t = &l->target;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (c == 'h')
		{
			fputs(usage, stdout);
			return STATUS_DONE;
		}
		if (c == '?' || !take_option(l, c, optarg))
			break;
	}
	if (c == -1 && optind == argc - 1 && t->table != NULL && !t->attach &&
		(t->side_table != NULL || t->text_column != NULL || t->language != NULL))
		fputs("dsocr-engine: --side-table, --text-column and --language go with --attach\n\n",
			  stderr);
	else if (c == -1 && optind == argc - 1 && t->table != NULL)
	{
		l->root = argv[optind];
		return -1;
	}
	fputs(usage, stderr);
	return STATUS_USAGE;
}

int
dsocr_cli_load(int argc, char **argv)
{
	struct sigaction stop = {.sa_handler = handle_stop};
	DsocrLoad *l = dsocr_zalloc(1, sizeof(DsocrLoad), NULL);
	int status;

	if (l == NULL)
		return STATUS_DATABASE;
	l->target = (DsocrLoadTarget){.path_column = "path", .image_column = "image", .conninfo = ""};
	l->prefix = "";
	l->batch_rows = 100;
	l->batch_bytes = 64000000;
	l->lines = 10;
	status = take_options(l, argc, argv);
	if (status < 0)
	{
		(void) sigaction(SIGINT, &stop, NULL);
		(void) sigaction(SIGTERM, &stop, NULL);
		signal(SIGPIPE, SIG_IGN);
		dsocr_load_show_init(&l->show, (int) l->lines);
		status = run(l);
		dsocr_load_show_end(&l->show);
	}
	if (l->db != NULL)
		dsocr_load_db_close(l->db);
	dsocr_load_files_free(&l->files);
	dsocr_free(l);
	return status;
}
