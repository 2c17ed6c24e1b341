/*-------------------------------------------------------------------------
 *
 * bench_stages.c
 *		Stages of reading a page, as told line by line.
 *
 *		bench_stages --model DIR [--precision bf16] [--threads 1] [--batch 4]
 *
 * Reads commands, one a line, does each once and answers with one JSON object
 * a line; {"error": TEXT} when it could not be done.
 *
 *		info  read  product			memory; limits of the machine
 *		encode SIZE					a view of SIZE pixels
 *		prefill TOKENS				of one text
 *		decode STEPS				tokens behind that text
 *		batch TOKENS N				N texts are prefilled
 *		steps STEPS					tokens behind each of them
 *		page TOKENS FILE...			files read together, so many tokens each
 *		quit
 *
 * Other programs answer the same commands, so that they can take turns.  Ids
 * are (i * 7919 + 11) modulo the vocabulary, whatever the model would have
 * said; its own choice behind a prompt is in the answer, for comparison.
 *
 *-------------------------------------------------------------------------
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "device.h"
#include "engine.h"
#include "sequence.h"

#define MAX_TEXTS 16
#define MAX_LINE 4096
#define READ_BYTES ((size_t) 1 << 29)
#define DIM 4096
#define ROWS 1024
#define ROOM 256 /* positions behind a prompt */

typedef uint64_t Wide __attribute__((vector_size(64)));

typedef struct Stages
{
	DsocrEngineOptions options; /* model folder, backend */
	int most;					/* texts at once */
	DsocrBackend *be;			/* opened with the first command that needs it */
	DsocrModel *m;
	DsocrKvCache *kv;
	DsocrSequence texts[MAX_TEXTS];
	int n_texts;
	int prompt;			 /* positions of each */
	DsocrEngine *engine; /* for whole pages, instead of the model */
	int64_t tokens;		 /* that pages had */
	Wide *memory;		 /* that reading is timed on */
	DsocrError err;
} Stages;

typedef struct Clock
{
	int64_t wall;
	double cpu;
} Clock;

static double
cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double) (u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
		   (double) (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static Clock
start_clock(void)
{
	return (Clock){dsocr_now_us(), cpu_seconds()};
}

static bool
answer(const Clock *start, int64_t n, int choice)
{
	double cpu = cpu_seconds() - start->cpu;

	printf("{\"wall_s\": %.6f, \"cpu_s\": %.6f, \"n\": %lld, \"choice\": %d}\n",
		   (double) (dsocr_now_us() - start->wall) / 1e6, cpu, (long long) n, choice);
	return true;
}

static bool
refuse(const Stages *s)
{
	printf("{\"error\": \"");
	for (const char *p = s->err.message; *p != '\0'; p++)
		putchar(*p == '"' || *p == '\\' || (unsigned char) *p < 32 ? '\'' : *p);
	printf("\"}\n");
	return false;
}

/* ---- model ---- */

static bool
need_model(Stages *s)
{
	if (s->m != NULL)
		return true;
	s->be = dsocr_device_open(&s->options.backend, &s->err);
	s->m = s->be != NULL ? dsocr_model_open(s->be, s->options.model, NULL, s->most, &s->err) : NULL;
	return s->m != NULL;
}

static int32_t
id_at(const Stages *s, int i)
{
	return (int32_t) (((unsigned) i * 7919u + 11u) % (unsigned) s->m->config.vocab);
}

/* ---- limits of the machine ---- */

static bool
do_read(Stages *s)
{
	size_t n = READ_BYTES / sizeof(Wide);
	Wide a = {0};
	Wide b = {0};
	Wide c = {0};
	Wide d = {0};
	Clock start;

	if (s->memory == NULL && (s->memory = dsocr_alloc(n, sizeof(Wide), &s->err)) == NULL)
		return refuse(s);
	if (s->memory[0][0] == 0)
		memset(s->memory, 1, READ_BYTES);
	start = start_clock();
	for (size_t i = 0; i + 4 <= n; i += 4)
	{
		a ^= s->memory[i];
		b ^= s->memory[i + 1];
		c ^= s->memory[i + 2];
		d ^= s->memory[i + 3];
	}
	a ^= b ^ c ^ d;
	return answer(&start, READ_BYTES, a[0] == 1); /* the sum is needed, or nothing is read */
}

/* Made anew each time; the product alone is timed. */
static bool
do_product(Stages *s)
{
	size_t n = (size_t) DIM * DIM;
	uint16_t *values = dsocr_alloc(n, sizeof(*values), &s->err);
	float *row = dsocr_alloc(DIM, sizeof(*row), &s->err);
	DsocrTensor tensor = {.name = "product",
						  .dtype = DSOCR_BF16,
						  .ndim = 2,
						  .shape = {DIM, DIM},
						  .count = (int64_t) n,
						  .data = values};
	const DsocrTensor *part = &tensor;
	DsocrMatrix *w = NULL;
	void *x = NULL;
	void *y = NULL;
	Clock start;
	bool ok = values != NULL && row != NULL && need_model(s);

	for (size_t i = 0; ok && i < n; i++)
		values[i] = dsocr_f32_to_bf16((float) (i % 251) / 251.0f - 0.5f);
	for (int i = 0; ok && i < DIM; i++)
		row[i] = (float) (i % 241) / 241.0f - 0.5f;
	if (ok)
	{
		w = s->be->ops->matrix(s->be, &part, 1, false, &s->err);
		x = s->be->ops->alloc(s->be, (size_t) ROWS * DIM, &s->err);
		y = s->be->ops->alloc(s->be, (size_t) ROWS * DIM, &s->err);
	}
	ok = ok && w != NULL && x != NULL && y != NULL;
	for (int i = 0; ok && i < ROWS; i++)
		s->be->ops->write(s->be, dsocr_act(s->be, x, (size_t) i * DIM), row, DIM);
	for (int run = 0; ok && run < 2; run++) /* the first warms up */
	{
		start = start_clock();
		s->be->ops->linear(s->be, y, x, ROWS, w, NULL, DSOCR_ACT_NONE, NULL, ROWS);
		ok = s->be->ops->sync(s->be, &s->err);
	}
	ok = ok ? answer(&start, 2 * (int64_t) ROWS * (int64_t) n, -1) : refuse(s);
	if (x != NULL)
		s->be->ops->free(s->be, x);
	if (y != NULL)
		s->be->ops->free(s->be, y);
	if (w != NULL)
		s->be->ops->matrix_free(s->be, w);
	dsocr_free(values);
	dsocr_free(row);
	return ok;
}

/* ---- encoder ---- */

static bool
do_encode(Stages *s, int size)
{
	size_t bytes = (size_t) size * (size_t) size * 3;
	uint8_t *rgb = dsocr_alloc(bytes, 1, &s->err);
	const uint8_t *view = rgb;
	void *tokens = NULL;
	size_t side;
	Clock start;
	bool ok = rgb != NULL && need_model(s);

	if (ok)
	{
		side = (size_t) (size / s->m->config.patch + 3) / 4;
		tokens = s->be->ops->alloc(s->be, side * side * (size_t) s->m->config.hidden, &s->err);
		for (size_t i = 0; i < bytes; i++)
			rgb[i] = (uint8_t) (i / 48 * 2654435761u >> 24);
	}
	start = start_clock();
	ok = tokens != NULL &&
		 dsocr_encoder_run(s->m->encoder, &view, 1, size, tokens, NULL, NULL, &s->err) &&
		 s->be->ops->sync(s->be, &s->err);
	ok = ok ? answer(&start, 1, -1) : refuse(s);
	if (tokens != NULL)
		s->be->ops->free(s->be, tokens);
	dsocr_free(rgb);
	return ok;
}

/* ---- decoder ---- */

static void
end_texts(Stages *s)
{
	for (int i = 0; i < s->n_texts; i++)
		dsocr_sequence_end(&s->texts[i], s->m);
	s->n_texts = 0;
	dsocr_kv_cache_close(s->kv);
	s->kv = NULL;
}

static bool
start_texts(Stages *s, int n, int prompt)
{
	const DsocrPlan no_image = {.views = 0};
	int32_t *ids = dsocr_alloc((size_t) prompt, sizeof(*ids), &s->err);
	int cap = prompt + ROOM;
	bool ok = ids != NULL && need_model(s);

	if (ok)
		s->kv =
			dsocr_kv_cache_open(s->be, &s->m->config, n * dsocr_kv_pages(cap), s->most, &s->err);
	ok = ok && s->kv != NULL;
	for (int t = 0; ok && t < n; t++)
	{
		DsocrSequence *text = &s->texts[t];

		for (int i = 0; i < prompt; i++)
			ids[i] = id_at(s, i + t * 1000);
		ok = dsocr_sequence_start(text, s->m, ids, prompt, cap, -1, &no_image, &s->err);
		if (!ok)
			break;
		s->n_texts++;
		ok = dsocr_sequence_reserve(text, s->m, s->kv) && dsocr_sequence_embed(text, s->m, &s->err);
	}
	dsocr_free(ids);
	s->prompt = prompt;
	return ok;
}

static bool
do_prefill(Stages *s, int n, int prompt)
{
	DsocrWatch watch = {0};
	float logprob;
	int32_t choice;
	Clock start;
	bool ok;

	if (s->n_texts > 0)
		end_texts(s);
	if (n < 1 || n > s->most || prompt < 1 || prompt > 4096)
		ok = dsocr_fail(&s->err, DSOCR_E_ARGUMENT, "1 to %d texts of 1 to 4096 ids", s->most);
	else
		ok = start_texts(s, n, prompt);
	start = start_clock();
	for (int t = 0; ok && t < n; t++)
		while (ok && s->texts[t].filled < prompt)
			ok = dsocr_sequence_prefill(&s->texts[t], s->m, &watch, &s->err);
	ok = ok && s->be->ops->sync(s->be, &s->err);
	if (!ok)
		return refuse(s);
	s->be->ops->picked(s->be, &choice, &logprob, 1);
	return answer(&start, (int64_t) n * prompt, choice);
}

/* Every call goes on where the prompts end. */
static bool
do_decode(Stages *s, int steps)
{
	DsocrWatch watch = {0};
	DsocrSequence *list[MAX_TEXTS];
	int32_t ids[MAX_TEXTS];
	float logprobs[MAX_TEXTS];
	Clock start;
	bool ok = s->n_texts > 0 && steps >= 1 && steps < ROOM;

	if (!ok)
		dsocr_fail(&s->err, DSOCR_E_ARGUMENT, "prefill first; at most %d tokens", ROOM - 1);
	for (int t = 0; ok && t < s->n_texts; t++)
	{
		list[t] = &s->texts[t];
		list[t]->n = list[t]->filled = s->prompt;
		dsocr_sequence_push(list[t], id_at(s, s->prompt + t * 1000));
		dsocr_sequence_text(list[t], s->m);
	}
	start = start_clock();
	for (int step = 1; ok && step <= steps; step++)
	{
		ok = dsocr_sequences_decode(list, s->n_texts, s->m, &watch, ids, logprobs, &s->err);
		for (int t = 0; ok && t < s->n_texts; t++)
			dsocr_sequence_push(list[t], id_at(s, s->prompt + step + t * 1000));
	}
	return ok ? answer(&start, (int64_t) steps * s->n_texts, ids[0]) : refuse(s);
}

/* ---- pages ---- */

static void
on_done(void *arg, uint64_t id, const DsocrResult *result, const DsocrError *error)
{
	Stages *s = arg;

	if (error->code != DSOCR_OK)
		s->err = *error;
	else
		s->tokens += result->text_tokens;
}

static bool
admit(Stages *s, const char *path, int tokens)
{
	DsocrRequest request = {.task = DSOCR_TASK_TEXT,
							.mode = DSOCR_MODE_BASE,
							.max_tokens = tokens,
							.max_pixels = 1 << 26};
	FILE *f = fopen(path, "rb");
	uint8_t *bytes = NULL;
	long n = 0;
	bool ok = f != NULL && fseek(f, 0, SEEK_END) == 0 && (n = ftell(f)) > 0 &&
			  fseek(f, 0, SEEK_SET) == 0 && (bytes = dsocr_alloc((size_t) n, 1, &s->err)) != NULL &&
			  fread(bytes, 1, (size_t) n, f) == (size_t) n;

	if (!ok && s->err.code == DSOCR_OK)
		dsocr_fail(&s->err, DSOCR_E_IO, "could not read \"%s\"", path);
	request.id = (uint64_t) dsocr_engine_pending(s->engine) + 1;
	request.image = bytes;
	request.image_len = (size_t) n;
	ok = ok && dsocr_engine_admit(s->engine, &request, &s->err);
	dsocr_free(bytes);
	if (f != NULL)
		fclose(f);
	return ok;
}

static bool
do_page(Stages *s, int tokens, char *files)
{
	DsocrEvents events = {.done = on_done, .arg = s};
	char *rest = NULL;
	Clock start;

	if (s->engine == NULL && (s->engine = dsocr_engine_open(&s->options, &s->err)) == NULL)
		return refuse(s);
	s->tokens = 0;
	start = start_clock();
	for (char *f = strtok_r(files, " \n", &rest); f != NULL; f = strtok_r(NULL, " \n", &rest))
		if (!admit(s, f, tokens))
			return refuse(s);
	while (dsocr_engine_pending(s->engine) > 0)
		if (!dsocr_engine_step(s->engine, &events, &s->err) && s->err.code != DSOCR_OK)
			break;
	return s->err.code == DSOCR_OK ? answer(&start, s->tokens, -1) : refuse(s);
}

/* ---- commands ---- */

/* Resident bytes of the process: now, at most, and those that are no file's. */
static void
do_info(Stages *s)
{
	long now = 0;
	long most = 0;
	long own = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
	{
		sscanf(line, "VmRSS: %ld", &now);
		sscanf(line, "VmHWM: %ld", &most);
		sscanf(line, "RssAnon: %ld", &own);
	}
	if (f != NULL)
		fclose(f);
	printf("{\"what\": \"%s\", \"resident_kb\": %ld, \"peak_kb\": %ld, \"anonymous_kb\": %ld}\n",
		   s->be != NULL ? s->be->description : "dsocr", now, most, own);
}

static bool
obey(Stages *s, char *line)
{
	char word[16] = "";
	int x = 0;
	int y = 0;
	int at = 0;

	memset(&s->err, 0, sizeof(s->err));
	sscanf(line, "%15s %d %n%d", word, &x, &at, &y);
	if (strcmp(word, "quit") == 0)
		return false;
	if (strcmp(word, "info") == 0)
		do_info(s);
	else if (strcmp(word, "read") == 0)
		do_read(s);
	else if (strcmp(word, "product") == 0)
		do_product(s);
	else if (strcmp(word, "encode") == 0 && x >= 64 && x <= 2048)
		do_encode(s, x);
	else if (strcmp(word, "prefill") == 0)
		do_prefill(s, 1, x);
	else if (strcmp(word, "batch") == 0)
		do_prefill(s, y, x);
	else if (strcmp(word, "decode") == 0 || strcmp(word, "steps") == 0)
		do_decode(s, x);
	else if (strcmp(word, "page") == 0 && x > 0 && at > 0)
		do_page(s, x, line + at);
	else
		printf("{\"error\": \"what is this command?\"}\n");
	fflush(stdout);
	return true;
}

static bool
read_options(int argc, char **argv, Stages *s)
{
	static const struct option options[] = {{"model", required_argument, NULL, 'm'},
											{"precision", required_argument, NULL, 'p'},
											{"threads", required_argument, NULL, 't'},
											{"batch", required_argument, NULL, 'b'},
											{NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (c == 'm')
			s->options.model = optarg;
		else if (c == 't')
			s->options.backend.threads = (int) strtol(optarg, NULL, 10);
		else if (c == 'b')
			s->most = (int) strtol(optarg, NULL, 10);
		else if (c == 'p' && strcmp(optarg, "int8") == 0)
			s->options.backend.weights = DSOCR_INT8;
		else if (c == 'p' && strcmp(optarg, "int4") == 0)
			s->options.backend.weights = DSOCR_INT4;
		else if (c != 'p' || strcmp(optarg, "bf16") != 0)
			return false;
	}
	return s->options.model != NULL && s->most >= 1 && s->most <= MAX_TEXTS && optind == argc;
}

int
main(int argc, char **argv)
{
	static Stages s = {
		.options = {.backend = {.device = "cpu", .weights = DSOCR_BF16, .threads = 1},
					.keep_loops = true},
		.most = 4};
	static char line[MAX_LINE];

	if (!read_options(argc, argv, &s))
	{
		fprintf(stderr, "usage: bench_stages --model DIR [--precision NAME] [--threads N]\n");
		return 2;
	}
	s.options.max_sequences = s.most;
	while (fgets(line, sizeof(line), stdin) != NULL && obey(&s, line))
		;
	if (s.m != NULL)
		end_texts(&s);
	dsocr_free(s.memory);
	dsocr_engine_close(s.engine);
	dsocr_model_close(s.m);
	if (s.be != NULL)
		s.be->ops->close(s.be);
	return 0;
}
