/*-------------------------------------------------------------------------
 *
 * count_work.c
 *		Small pieces of work whose instructions are counted.
 *
 * count_work [FOLDER]: does each piece once, from the files of the tree in
 * FOLDER.  `test/bench/count` runs it in callgrind, which writes a file for
 * each piece; opening the model and making the input is not counted.  One
 * thread, no clock, no random number: the same instructions each time.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <valgrind/callgrind.h>

#include "device.h"
#include "loop.h"
#include "preprocess.h"
#include "prompt.h"
#include "protocol.h"
#include "sequence.h"
#include "transcript.h"

#define SIDE 192   /* pixels of the view that is read */
#define TOKENS 32  /* written */
#define FRAMES 100 /* requests and results sent */
#define BLOCKS 40  /* of the page that is taken apart */
#define MAX_FILE ((size_t) 1 << 24)

typedef struct Work
{
	const char *folder; /* of the tree */
	DsocrBackend *be;
	DsocrModel *m;
	DsocrKvCache *kv;
	DsocrBuffer file; /* a page as PNG */
	DsocrImage image;
	DsocrPlan plan;
	DsocrViews views;
	DsocrSequence sequence; /* of the page */
	DsocrBuffer text;		/* grounded, its tokens and what is made of it */
	int32_t *ids;
	size_t n_ids;
	float *logprobs;
	DsocrResult result;
	DsocrError err;
} Work;

/* ---- what is not counted ---- */

static bool
open_model(Work *w)
{
	const DsocrBackendOptions options = {.device = "cpu", .threads = 1};
	char path[4096];

	if (snprintf(path, sizeof(path), "%s/test/samples/notice.png", w->folder) >=
			(int) sizeof(path) ||
		!dsocr_read_file(path, MAX_FILE, &w->file, &w->err))
		return false;
	snprintf(path, sizeof(path), "%s/models/nano", w->folder);
	w->be = dsocr_device_open(&options, &w->err);
	w->m = w->be != NULL ? dsocr_model_open(w->be, path, NULL, 1, &w->err) : NULL;
	w->kv = w->m != NULL
				? dsocr_kv_cache_open(w->be, &w->m->config,
									  dsocr_kv_pages(w->m->config.max_positions), 1, &w->err)
				: NULL;
	return w->kv != NULL;
}

/* The page's sequence, with room for what is written. */
static bool
start_sequence(Work *w)
{
	DsocrModel *m = w->m;
	int32_t *ids;
	size_t n;
	size_t at;
	bool ok;

	if (!dsocr_prompt_build(m->tokenizer, m->config.prompts[DSOCR_TASK_TEXT], true,
							w->plan.image_tokens, m->image_id, m->config.bos_id, &ids, &n, &at,
							&w->err))
		return false;
	ok = dsocr_sequence_start(&w->sequence, m, ids, (int) n, (int) n + TOKENS + 1, (int) at,
							  &w->plan, &w->err);
	dsocr_free(ids);
	w->sequence.ngram_size = 20;
	return ok && dsocr_sequence_reserve(&w->sequence, m, w->kv) &&
		   dsocr_sequence_embed(&w->sequence, m, &w->err);
}

/* A grounded page of paragraphs and tables. */
static bool
make_text(Work *w)
{
	bool ok = true;

	for (int i = 0; ok && i < BLOCKS; i++)
	{
		bool table = i % 4 == 3;

		ok = dsocr_buffer_printf(
			&w->text, &w->err, "<|ref|>%s<|/ref|><|det|>[[%d, %d, %d, %d]]<|/det|>\n",
			table ? "table" : "text", 20 + i % 7, 10 + 20 * i, 900 + i % 50, 28 + 20 * i);
		for (int row = 0; ok && table && row < 6; row++)
			ok = dsocr_buffer_printf(&w->text, &w->err, "<tr><td>item %d</td><td>%d.50</td></tr>%s",
									 row, i * row, row == 5 ? "\n\n" : "");
		if (ok && !table)
			ok = dsocr_buffer_printf(&w->text, &w->err,
									 "Paragraph %d has a few words, \\(x_%d\\) and an end.\n\n", i,
									 i);
	}
	return ok;
}

static bool
make_logprobs(Work *w)
{
	w->logprobs = dsocr_alloc(w->n_ids, sizeof(float), &w->err);
	for (size_t i = 0; w->logprobs != NULL && i < w->n_ids; i++)
		w->logprobs[i] = -0.01f * (float) (i % 5);
	return w->logprobs != NULL;
}

/* ---- the pieces ---- */

/* A page from its file to a view. */
static bool
image(Work *w)
{
	const DsocrViewSpec spec = {.base_size = SIDE, .image_size = SIDE};

	return dsocr_image_decode((const uint8_t *) w->file.data, w->file.len, 0, &w->image, &w->err) &&
		   dsocr_plan(w->image.width, w->image.height, &spec, &w->plan, &w->err) &&
		   dsocr_views_make(&w->image, &w->plan, &w->views, &w->err);
}

static bool
encode(Work *w)
{
	const DsocrSequenceView view = {&w->sequence, 0, w->views.rgb[0]};
	const DsocrWatch watch = {.tap = NULL};

	return dsocr_sequence_views(&view, 1, SIDE, w->m, &watch, &w->err);
}

static bool
prefill(Work *w)
{
	const DsocrWatch watch = {.tap = NULL};

	while (w->sequence.filled < w->sequence.prompt_len)
		if (!dsocr_sequence_prefill(&w->sequence, w->m, &watch, &w->err))
			return false;
	return true;
}

static bool
decode(Work *w)
{
	const DsocrWatch watch = {.tap = NULL};
	DsocrSequence *list[1] = {&w->sequence};
	int32_t id;
	float logprob;

	w->be->ops->picked(w->be, &id, &logprob, 1);
	for (int i = 0; i < TOKENS; i++)
	{
		dsocr_sequence_push(&w->sequence, id);
		if (!dsocr_sequences_decode(list, 1, w->m, &watch, &id, &logprob, &w->err))
			return false;
	}
	return true;
}

static bool
tokenize(Work *w)
{
	return dsocr_tokenizer_encode(w->m->tokenizer, w->text.data, w->text.len, &w->ids, &w->n_ids,
								  &w->err);
}

/* Looking for a loop where there is none. */
static bool
loop(Work *w)
{
	DsocrLoop *l = dsocr_loop_new(w->m->kinds, w->m->config.vocab, &w->err);
	bool ok = l != NULL;

	for (size_t i = 0; ok && i < w->n_ids; i++)
		ok = dsocr_loop_push(l, w->ids[i]) < 0;
	dsocr_loop_free(l);
	return ok;
}

/* Tokens to text, blocks, boxes and lines. */
static bool
layout(Work *w)
{
	const DsocrTranscript transcript = {
		.ids = w->ids, .logprobs = w->logprobs, .n = (int) w->n_ids, .width = 1240, .height = 1754};

	return dsocr_transcript_fill(w->m->tokenizer, &transcript, &w->result, &w->err);
}

static bool
send_request(Work *w)
{
	const DsocrRequest request = {.id = 1,
								  .kind = DSOCR_READ,
								  .task = DSOCR_TASK_GENERATE,
								  .mode = DSOCR_MODE_SMALL,
								  .prompt = "<image>\nWhat is written here?"};
	DsocrBuffer out = {0};
	DsocrFrameHeader h;
	DsocrRequest r;
	char *prompt = NULL;
	bool ok = dsocr_frame_request_head(&out, &request, &w->err) &&
			  dsocr_buffer_append(&out, request.prompt, strlen(request.prompt), &w->err);

	if (ok)
		memcpy(&h, out.data, sizeof(h));
	ok = ok && dsocr_frame_check(&h, &w->err) &&
		 dsocr_parse_request(&h, out.data + sizeof(h), &r, &prompt, &w->err);
	dsocr_free(prompt);
	dsocr_buffer_free(&out);
	return ok;
}

static bool
send_result(Work *w)
{
	DsocrBuffer out = {0};
	DsocrError status = {0};
	DsocrResult copy = {0};
	bool ok = dsocr_frame_result(&out, 1, &status, &w->result, &w->err) &&
			  dsocr_parse_result(out.data + sizeof(DsocrFrameHeader),
								 out.len - sizeof(DsocrFrameHeader), &status, &copy, &w->err);

	dsocr_result_free(&copy);
	dsocr_buffer_free(&out);
	return ok;
}

/* Requests and results to frames and back. */
static bool
frames(Work *w)
{
	bool ok = true;

	for (int i = 0; ok && i < FRAMES; i++)
		ok = send_request(w) && send_result(w);
	return ok;
}

/* ---- all of it ---- */

typedef struct Piece
{
	const char *name; /* NULL: not counted */
	bool (*run)(Work *w);
} Piece;

static const Piece pieces[] = {{NULL, open_model}, {"image", image},	   {NULL, start_sequence},
							   {"encode", encode}, {"prefill", prefill},   {"decode", decode},
							   {NULL, make_text},  {"tokenize", tokenize}, {NULL, make_logprobs},
							   {"loop", loop},	   {"layout", layout},	   {"frames", frames}};

static bool
run(Work *w, const Piece *piece)
{
	bool ok;

	if (piece->name == NULL)
		return piece->run(w);
	CALLGRIND_TOGGLE_COLLECT;
	ok = piece->run(w);
	CALLGRIND_TOGGLE_COLLECT;
	CALLGRIND_DUMP_STATS_AT(piece->name);
	return ok;
}

int
main(int argc, char **argv)
{
	static Work w;
	bool ok = true;

	w.folder = argc > 1 ? argv[1] : ".";
	for (size_t i = 0; ok && i < sizeof(pieces) / sizeof(pieces[0]); i++)
	{
		ok = run(&w, &pieces[i]);
		if (!ok)
			fprintf(stderr, "count_work: piece %zu: %s\n", i, w.err.message);
	}
	dsocr_free(w.ids);
	dsocr_free(w.logprobs);
	dsocr_result_free(&w.result);
	dsocr_views_free(&w.views);
	dsocr_image_free(&w.image);
	dsocr_buffer_free(&w.text);
	dsocr_buffer_free(&w.file);
	if (w.m != NULL)
		dsocr_sequence_end(&w.sequence, w.m);
	dsocr_kv_cache_close(w.kv);
	dsocr_model_close(w.m);
	if (w.be != NULL)
		w.be->ops->close(w.be);
	return ok ? 0 : 1;
}
