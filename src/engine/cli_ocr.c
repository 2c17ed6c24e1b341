/*-------------------------------------------------------------------------
 *
 * cli_ocr.c
 *		dsocr-engine ocr: read image files, together, and print in order.
 *
 *-------------------------------------------------------------------------
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

#define MAX_FILE_BYTES ((size_t) 1 << 30)
#define PROGRESS_INTERVAL_US 200000

/* The same as the server's setting dsocr.no_repeat_ngram. */
#define DEFAULT_NGRAM_SIZE 30
#define DEFAULT_NGRAM_WINDOW 90

static const char usage[] =
	"usage: dsocr-engine ocr [options] FILE...\n"
	"  --model DIR        model folder (the embedded one)\n"
	"  --mode NAME        auto, tiny, small, base, large, gundam, gundam_m (auto)\n"
	"  --task NAME        markdown, text, figure, describe, locate, generate (markdown)\n"
	"  --prompt TEXT      prompt of generate, or what locate looks for\n"
	"  --max-tokens N     tokens of text, 0 = as many as fit (0)\n"
	"  --no-repeat N,W    never repeat N tokens within W, 0,0 = off (30,90)\n"
	"  --device NAME      cpu, cuda:N or auto (cpu)\n"
	"  --precision NAME   bf16, fp32, int8 or int4 (bf16)\n"
	"  --threads N        0 = all cores (0)\n"
	"  --ladder           read again in a larger mode what loops or is cut\n"
	"  --auto-rotate      turn and straighten pages first\n"
	"  --json             one JSON object a file instead of its text\n";

typedef struct Options
{
	DsocrEngineOptions engine;
	DsocrRequest request; /* what all files share */
	bool json;
} Options;

/* A file and what became of it; request ids are indexes. */
typedef struct Page
{
	const char *file;
	bool ended;
	DsocrError error;
	char *text; /* the line or lines to print, NULL after an error */
} Page;

typedef struct Run
{
	Page *pages;
	int n;
	int admitted;
	int printed;
	bool failed;
	bool unwritten; /* a result was lost */
	bool json;
	bool tty; /* progress may be shown */
	bool line_open;
	int64_t shown_us;
} Run;

/* ---- options ---- */

static bool
take_ngram(DsocrRequest *r, const char *value)
{
	int end = 0;

	if (sscanf(value, "%d,%d%n", &r->ngram_size, &r->ngram_window, &end) == 2 &&
		value[end] == '\0' && r->ngram_size >= 0 && r->ngram_window >= 0)
		return true;
	fprintf(stderr, "dsocr-engine: --no-repeat needs two numbers, not \"%s\"\n", value);
	return false;
}

static bool
take_option(Options *o, bool *task_given, int c, const char *value)
{
	long long n;
	int i;

	switch (c)
	{
		case 'm':
			o->engine.model = value;
			return true;
		case 'o':
			i = dsocr_cli_name("mode", value, dsocr_mode_names, DSOCR_N_MODES);
			if (i >= 0)
				o->request.mode = (DsocrMode) i;
			return i >= 0;
		case 'k':
			i = dsocr_cli_name("task", value, dsocr_task_names, DSOCR_N_TASKS);
			if (i >= 0)
				o->request.task = (DsocrTask) i;
			*task_given = true;
			return i >= 0;
		case 'p':
			o->request.prompt = value;
			return true;
		case 'x':
			if (!dsocr_cli_number("max-tokens", value, 0, INT_MAX, &n))
				return false;
			o->request.max_tokens = (int32_t) n;
			return true;
		case 'r':
			return take_ngram(&o->request, value);
		case 'd':
			o->engine.backend.device = value;
			return true;
		case 'c':
			return dsocr_cli_precision(value, &o->engine.backend.precision,
									   &o->engine.backend.weights);
		case 't':
			if (!dsocr_cli_number("threads", value, 0, 4096, &n))
				return false;
			o->engine.backend.threads = (int) n;
			return true;
		case 'l':
			o->request.ladder = true;
			return true;
		case 'a':
			o->request.auto_rotate = true;
			return true;
		case 'j':
			o->json = true;
			return true;
		default:
			return false;
	}
}

/* -1 to go on, else the exit status. */
static int
read_options(int argc, char **argv, Options *o)
{
	static const struct option options[] = {
		{"model", required_argument, NULL, 'm'},
		{"mode", required_argument, NULL, 'o'},
		{"task", required_argument, NULL, 'k'},
		{"prompt", required_argument, NULL, 'p'},
		{"max-tokens", required_argument, NULL, 'x'},
		{"no-repeat", required_argument, NULL, 'r'},
		{"device", required_argument, NULL, 'd'},
		{"precision", required_argument, NULL, 'c'},
		{"threads", required_argument, NULL, 't'},
		{"ladder", no_argument, NULL, 'l'},
		{"auto-rotate", no_argument, NULL, 'a'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	bool task_given = false;
	bool ok = true;
	int c;

	while (ok && (c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (c == 'h')
		{
			fputs(usage, stdout);
			return 0;
		}
		ok = take_option(o, &task_given, c, optarg);
	}
	if (ok && o->request.prompt != NULL && !task_given)
		o->request.task = DSOCR_TASK_GENERATE;
	if (ok)
	{
		bool wants = o->request.task == DSOCR_TASK_GENERATE || o->request.task == DSOCR_TASK_LOCATE;

		if (wants != (o->request.prompt != NULL))
		{
			fprintf(stderr, "dsocr-engine: --prompt goes with the tasks generate and locate\n");
			ok = false;
		}
	}
	if (!ok || optind == argc)
	{
		fputs(usage, stderr);
		return 2;
	}
	return -1;
}

/* ---- printing ---- */

static json_t *
lines_to_json(int n, const DsocrLine *lines)
{
	json_t *list = json_array();

	for (int i = 0; i < n; i++)
		json_array_append_new(list, json_pack("[iif]", lines[i].start, lines[i].length,
											  (double) lines[i].confidence));
	return list;
}

static json_t *
blocks_to_json(const DsocrResult *r)
{
	json_t *blocks = json_array();

	for (int i = 0; i < r->n_blocks; i++)
	{
		const DsocrBlock *b = &r->blocks[i];
		json_t *boxes = json_array();

		for (int k = 0; k < b->n_boxes; k++)
			json_array_append_new(boxes, json_pack("[iiii]", b->boxes[k][0], b->boxes[k][1],
												   b->boxes[k][2], b->boxes[k][3]));
		json_array_append_new(blocks,
							  json_pack("{sssosssfso}", "label", b->label, "boxes", boxes,
										"content", b->content, "confidence", (double) b->confidence,
										"lines", lines_to_json(b->n_lines, b->lines)));
	}
	return blocks;
}

static const char *
mode_name(DsocrMode mode)
{
	return mode < DSOCR_N_MODES ? dsocr_mode_names[mode] : "custom";
}

static const char *
finish_name(DsocrFinish finish)
{
	return finish == DSOCR_FINISH_STOP ? "stop" : finish == DSOCR_FINISH_LENGTH ? "length" : "loop";
}

static json_t *
attempts_to_json(const DsocrResult *r)
{
	json_t *list = json_array();

	for (int i = 0; i < r->n_attempts; i++)
		json_array_append_new(list, json_pack("{sssssi}", "mode", mode_name(r->attempts[i].mode),
											  "finish", finish_name(r->attempts[i].finish),
											  "text_tokens", r->attempts[i].text_tokens));
	return list;
}

static json_t *
timings_to_json(const DsocrTimings *t)
{
	return json_pack("{sIsIsIsIsI}", "queued", (json_int_t) t->queued, "preprocess",
					 (json_int_t) t->preprocess, "encode", (json_int_t) t->encode, "prefill",
					 (json_int_t) t->prefill, "decode", (json_int_t) t->decode);
}

static json_t *
result_to_json(const char *file, const DsocrResult *r)
{
	const struct
	{
		const char *key;
		json_t *value;
	} fields[] = {
		{"markdown", json_string(r->markdown)},
		{"raw", json_string(r->raw)},
		{"prefix", json_string(r->prefix)},
		{"prefix_confidence", json_real((double) r->prefix_confidence)},
		{"prefix_lines", lines_to_json(r->n_prefix_lines, r->prefix_lines)},
		{"blocks", blocks_to_json(r)},
		{"finish", json_string(finish_name(r->finish))},
		{"mode", json_string(mode_name(r->mode))},
		{"width", json_integer(r->width)},
		{"height", json_integer(r->height)},
		{"rotation", json_integer(r->rotation)},
		{"skew", json_real((double) r->skew)},
		{"grid", json_pack("[ii]", r->grid_columns, r->grid_rows)},
		{"views", json_integer(r->views)},
		{"image_tokens", json_integer(r->image_tokens)},
		{"valid_image_tokens", json_integer(r->valid_image_tokens)},
		{"prompt_tokens", json_integer(r->prompt_tokens)},
		{"text_tokens", json_integer(r->text_tokens)},
		{"mean_logprob", json_real(r->mean_logprob)},
		{"confidence", json_real(r->confidence)},
		{"attempts", attempts_to_json(r)},
		{"timings_us", timings_to_json(&r->timings)},
	};
	json_t *o = json_pack("{s:s}", "file", file);

	if (o == NULL) /* a file name that is not UTF-8 */
		o = json_pack("{s:n}", "file");
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		json_object_set_new(o, fields[i].key, fields[i].value);
	return o;
}

static void
clear_line(Run *run)
{
	if (run->line_open)
		fputs("\r\033[K", stderr);
	run->line_open = false;
}

static json_t *
error_to_json(const char *file, const DsocrError *error)
{
	json_t *o = json_pack("{s:s}", "file", file);

	if (o == NULL)
		o = json_pack("{s:n}", "file");
	json_object_set_new(o, "error", json_string(error->message));
	return o;
}

/* What is printed for a page; NULL when there is no memory. */
static char *
page_text(const char *file, const DsocrResult *r, bool json)
{
	json_t *o;
	char *dumped;
	char *text;

	if (!json)
		return dsocr_strdup(r->markdown, NULL);
	o = result_to_json(file, r);
	dumped = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	text = dumped == NULL ? NULL : dsocr_strdup(dumped, NULL);
	free(dumped);
	return text;
}

static void
print_page(Run *run, Page *p)
{
	clear_line(run);
	if (p->error.code != DSOCR_OK)
	{
		run->failed = true;
		fprintf(stderr, "%s: %s\n", p->file, p->error.message);
		if (p->error.hint[0] != '\0')
			fprintf(stderr, "%s\n", p->error.hint);
		if (run->json)
		{
			json_t *o = error_to_json(p->file, &p->error);

			json_dumpf(o, stdout, JSON_COMPACT);
			json_decref(o);
			putchar('\n');
		}
	}
	else
		puts(p->text);
	if ((fflush(stdout) != 0 || ferror(stdout)) && !run->unwritten)
	{
		fprintf(stderr, "dsocr-engine: could not write the result of %s: %s\n", p->file,
				strerror(errno));
		run->unwritten = true;
		run->failed = true;
	}
	dsocr_free(p->text);
	p->text = NULL;
}

static void
print_ended(Run *run)
{
	while (run->printed < run->n && run->pages[run->printed].ended)
		print_page(run, &run->pages[run->printed++]);
}

/* ---- reading ---- */

static void
on_progress(void *arg, const DsocrProgress *p)
{
	Run *run = arg;
	int64_t now = dsocr_now_us();

	if (!run->tty || now - run->shown_us < PROGRESS_INTERVAL_US)
		return;
	run->shown_us = now;
	run->line_open = true;
	fprintf(stderr, "\r\033[K%.60s: %d of %d views, %d tokens", run->pages[p->id].file,
			p->views_done, p->views, p->text_tokens);
}

/* The result belongs to the engine: make of it what will be printed. */
static void
on_done(void *arg, uint64_t id, const DsocrResult *result, const DsocrError *error)
{
	Run *run = arg;
	Page *p = &run->pages[id];

	p->ended = true;
	p->error = *error;
	if (error->code == DSOCR_OK)
	{
		p->text = page_text(p->file, result, run->json);
		if (p->text == NULL)
			dsocr_fail(&p->error, DSOCR_E_MEMORY, "out of memory for the result");
	}
	print_ended(run);
}

static void
admit(Run *run, DsocrEngine *e, const Options *o)
{
	Page *p = &run->pages[run->admitted];
	DsocrRequest r = o->request;
	DsocrBuffer bytes = {0};

	r.id = (uint64_t) run->admitted++;
	if (dsocr_read_file(p->file, MAX_FILE_BYTES, &bytes, &p->error))
	{
		r.image = (const uint8_t *) bytes.data;
		r.image_len = bytes.len;
		p->ended = !dsocr_engine_admit(e, &r, &p->error);
	}
	else
		p->ended = true;
	dsocr_buffer_free(&bytes);
}

static bool
read_pages(Run *run, DsocrEngine *e, const Options *o)
{
	const DsocrEvents events = {on_progress, on_done, NULL, run};
	int together = 2 * dsocr_engine_info(e)->max_sequences;

	for (;;)
	{
		DsocrError err = {0};

		while (run->admitted < run->n && dsocr_engine_pending(e) < together)
			admit(run, e, o);
		print_ended(run);
		if (dsocr_engine_pending(e) == 0)
			return true;
		if (!dsocr_engine_step(e, &events, &err) && err.code != DSOCR_OK)
		{
			clear_line(run);
			fprintf(stderr, "dsocr-engine: %s\n", err.message);
			return false;
		}
	}
}

int
dsocr_cli_ocr(int argc, char **argv)
{
	Options o = {.engine = {.backend = {.device = "cpu", .log = dsocr_cli_log}},
				 .request = {.kind = DSOCR_READ,
							 .task = DSOCR_TASK_MARKDOWN,
							 .ngram_size = DEFAULT_NGRAM_SIZE,
							 .ngram_window = DEFAULT_NGRAM_WINDOW}};
	Run run = {0};
	DsocrError err = {0};
	DsocrEngine *e;
	char model[PATH_MAX];
	int status = read_options(argc, argv, &o);

	if (status >= 0)
		return status;
	if (o.engine.model == NULL)
	{
		dsocr_cli_default_model(model, sizeof(model));
		o.engine.model = model;
	}
	run.json = o.json;
	run.tty = isatty(STDERR_FILENO);
	run.n = argc - optind;
	e = dsocr_engine_open(&o.engine, &err);
	if (e != NULL)
		run.pages = dsocr_zalloc((size_t) run.n, sizeof(Page), &err);
	if (e == NULL || run.pages == NULL)
	{
		fprintf(stderr, "dsocr-engine: %s\n", err.message);
		if (err.hint[0] != '\0')
			fprintf(stderr, "%s\n", err.hint);
		dsocr_engine_close(e);
		return 1;
	}
	for (int i = 0; i < run.n; i++)
		run.pages[i].file = argv[optind + i];
	if (!read_pages(&run, e, &o))
		run.failed = true;
	for (int i = run.printed; i < run.n; i++)
		dsocr_free(run.pages[i].text);
	dsocr_free(run.pages);
	dsocr_engine_close(e);
	return run.failed ? 1 : 0;
}
