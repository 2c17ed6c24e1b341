/*-------------------------------------------------------------------------
 *
 * llama_peer.c
 *		llama.cpp, told line by line what to do: the other side of bench_stages.
 *
 *		llama_peer --model FILE [--mmproj FILE] [--threads 1] [--batch 4]
 *		llama_peer --quantize FROM TO q8_0|q4_k_m
 *
 * Commands and answers are those of test/bench/bench_stages.c, but pages.  A
 * view is encoded as this program's own tool does it; a picture of at most
 * 640 x 640 pixels becomes one view of 1024 x 1024 here.  Built by
 * tools/bench/setup with the libraries it downloads.
 *
 *-------------------------------------------------------------------------
 */
#include <getopt.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <llama.h>
#include <mtmd-helper.h>
#include <mtmd.h>

#define MAX_TEXTS 16
#define SIDE 640
#define MAX_PROMPT 4096

typedef struct Peer
{
	const char *model_file;
	const char *mmproj_file;
	int threads;
	int most;
	struct llama_model *model;
	struct llama_context *context;
	mtmd_context *vision;
	mtmd_input_chunks *chunks; /* of one picture, made once */
	int n_texts;
	int prompt;
	int vocab;
} Peer;

typedef struct Clock
{
	double wall;
	double cpu;
} Clock;

static Clock
now(void)
{
	struct rusage u;
	struct timespec t;

	getrusage(RUSAGE_SELF, &u);
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (Clock){(double) t.tv_sec + (double) t.tv_nsec / 1e9,
				   (double) (u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
					   (double) (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6};
}

static void
answer(const Clock *start, int n, int choice)
{
	Clock end = now();

	printf("{\"wall_s\": %.6f, \"cpu_s\": %.6f, \"n\": %d, \"choice\": %d}\n",
		   end.wall - start->wall, end.cpu - start->cpu, n, choice);
}

static void
refuse(const char *text)
{
	printf("{\"error\": \"%s\"}\n", text);
}

static void
die(const char *text)
{
	fprintf(stderr, "llama_peer: %s\n", text);
	exit(1);
}

static int
id_at(const Peer *p, int i)
{
	return (int) (((unsigned) i * 7919u + 11u) % (unsigned) p->vocab);
}

/* ---- encoder ---- */

static void
open_picture(Peer *p)
{
	struct mtmd_context_params params = mtmd_context_params_default();
	size_t bytes = (size_t) SIDE * SIDE * 3;
	unsigned char *rgb = malloc(bytes);
	const char *prompt = mtmd_default_marker();
	mtmd_input_text text = {prompt, strlen(prompt), true, true};
	mtmd_bitmap *picture;

	if (p->mmproj_file == NULL || rgb == NULL)
		die("encode needs --mmproj");
	params.use_gpu = false;
	params.print_timings = false;
	params.n_threads = p->threads;
	params.warmup = false;
	p->vision = mtmd_init_from_file(p->mmproj_file, p->model, params);
	if (p->vision == NULL)
		die("the projector cannot be opened");
	for (size_t i = 0; i < bytes; i++)
		rgb[i] = (unsigned char) (i / 48 * 2654435761u >> 24);
	picture = mtmd_bitmap_init(SIDE, SIDE, rgb);
	p->chunks = mtmd_input_chunks_init();
	if (mtmd_tokenize(p->vision, p->chunks, &text, (const mtmd_bitmap *const *) &picture, 1) != 0)
		die("the picture cannot be taken apart");
	mtmd_bitmap_free(picture);
	free(rgb);
}

static void
do_encode(Peer *p)
{
	int tokens = 0;
	Clock start;

	if (p->vision == NULL)
		open_picture(p);
	start = now();
	for (size_t i = 0; i < mtmd_input_chunks_size(p->chunks); i++)
	{
		const mtmd_input_chunk *chunk = mtmd_input_chunks_get(p->chunks, i);

		if (mtmd_input_chunk_get_type(chunk) != MTMD_INPUT_CHUNK_TYPE_IMAGE)
			continue;
		tokens += (int) mtmd_input_chunk_get_n_tokens(chunk);
		if (mtmd_encode_chunk(p->vision, chunk) != 0)
			die("the picture cannot be encoded");
	}
	answer(&start, tokens, -1);
}

/* ---- decoder ---- */

static int
largest(const float *logits, int n)
{
	int best = 0;

	for (int i = 1; i < n; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

static void
open_context(Peer *p)
{
	struct llama_context_params params = llama_context_default_params();

	params.n_ctx = (uint32_t) p->most * 1024;
	params.n_batch = 2048;
	params.n_ubatch = 512;
	params.n_seq_max = (uint32_t) p->most;
	params.n_threads = params.n_threads_batch = p->threads;
	params.kv_unified = p->most == 1;
	p->context = llama_init_from_model(p->model, params);
	if (p->context == NULL)
		die("no context");
}

static void
do_prefill(Peer *p, int n, int prompt)
{
	struct llama_batch batch;
	int choice = -1;
	Clock start;

	if (n < 1 || n > p->most || prompt < 1 || prompt > 1024)
	{
		refuse("too many");
		return;
	}
	if (p->context == NULL)
		open_context(p);
	llama_memory_clear(llama_get_memory(p->context), true);
	batch = llama_batch_init(prompt, 0, 1);
	start = now();
	for (int t = 0; t < n; t++)
	{
		batch.n_tokens = prompt;
		for (int i = 0; i < prompt; i++)
		{
			batch.token[i] = id_at(p, i + t * 1000);
			batch.pos[i] = i;
			batch.n_seq_id[i] = 1;
			batch.seq_id[i][0] = t;
			batch.logits[i] = i == prompt - 1;
		}
		if (llama_decode(p->context, batch) != 0)
			die("a prompt cannot be decoded");
		choice = largest(llama_get_logits_ith(p->context, prompt - 1), p->vocab);
	}
	answer(&start, n * prompt, choice);
	llama_batch_free(batch);
	p->n_texts = n;
	p->prompt = prompt;
}

static void
do_decode(Peer *p, int steps)
{
	struct llama_batch batch;
	int choice = -1;
	Clock start;

	if (p->n_texts == 0)
	{
		refuse("prefill first");
		return;
	}
	batch = llama_batch_init(MAX_TEXTS, 0, 1);
	for (int t = 0; t < p->n_texts; t++)
		llama_memory_seq_rm(llama_get_memory(p->context), t, p->prompt, -1);
	start = now();
	for (int step = 0; step < steps; step++)
	{
		batch.n_tokens = p->n_texts;
		for (int t = 0; t < p->n_texts; t++)
		{
			batch.token[t] = id_at(p, p->prompt + step + t * 1000);
			batch.pos[t] = p->prompt + step;
			batch.n_seq_id[t] = 1;
			batch.seq_id[t][0] = t;
			batch.logits[t] = 1;
		}
		if (llama_decode(p->context, batch) != 0)
			die("a token cannot be decoded");
		for (int t = p->n_texts - 1; t >= 0; t--)
			choice = largest(llama_get_logits_ith(p->context, t), p->vocab);
	}
	answer(&start, steps * p->n_texts, choice);
	llama_batch_free(batch);
}

/* ---- commands ---- */

static void
do_info(void)
{
	long resident = 0;
	long peak = 0;
	long own = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
	{
		sscanf(line, "VmRSS: %ld", &resident);
		sscanf(line, "VmHWM: %ld", &peak);
		sscanf(line, "RssAnon: %ld", &own);
	}
	if (f != NULL)
		fclose(f);
	printf("{\"what\": \"llama.cpp %s\", \"resident_kb\": %ld, \"peak_kb\": %ld, "
		   "\"anonymous_kb\": %ld}\n",
		   llama_version(), resident, peak, own);
}

static bool
obey(Peer *p, const char *line)
{
	char word[16] = "";
	int x = 0;
	int y = 0;

	sscanf(line, "%15s %d %d", word, &x, &y);
	if (strcmp(word, "quit") == 0)
		return false;
	if (strcmp(word, "info") == 0)
		do_info();
	else if (strcmp(word, "encode") == 0)
		do_encode(p);
	else if (strcmp(word, "prefill") == 0)
		do_prefill(p, 1, x);
	else if (strcmp(word, "batch") == 0)
		do_prefill(p, y, x);
	else if ((strcmp(word, "decode") == 0 || strcmp(word, "steps") == 0) && x > 0)
		do_decode(p, x);
	else
		refuse("what is this command?");
	fflush(stdout);
	return true;
}

static int
quantize(char **argv)
{
	struct llama_model_quantize_params params = llama_model_quantize_default_params();

	params.nthread = 2;
	params.ftype =
		strcmp(argv[4], "q8_0") == 0 ? LLAMA_FTYPE_MOSTLY_Q8_0 : LLAMA_FTYPE_MOSTLY_Q4_K_M;
	return llama_model_quantize(argv[2], argv[3], &params) == 0 ? 0 : 1;
}

static void
quiet(enum ggml_log_level level, const char *text, void *arg)
{
	(void) arg;
	if (level >= GGML_LOG_LEVEL_WARN)
		fputs(text, stderr);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {{"model", required_argument, NULL, 'm'},
											{"mmproj", required_argument, NULL, 'v'},
											{"threads", required_argument, NULL, 't'},
											{"batch", required_argument, NULL, 'b'},
											{NULL, 0, NULL, 0}};
	struct llama_model_params params = llama_model_default_params();
	Peer p = {.threads = 1, .most = 4};
	char line[256];
	int c;

	llama_log_set(quiet, NULL);
	mtmd_helper_log_set(quiet, NULL);
	llama_backend_init();
	if (argc == 5 && strcmp(argv[1], "--quantize") == 0)
		return quantize(argv);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (c == 'm')
			p.model_file = optarg;
		else if (c == 'v')
			p.mmproj_file = optarg;
		else if (c == 't')
			p.threads = atoi(optarg);
		else if (c == 'b')
			p.most = atoi(optarg);
		else
			return 2;
	}
	if (p.model_file == NULL || p.threads < 1 || p.most < 1 || p.most > MAX_TEXTS)
		die("--model FILE is needed");
	p.model = llama_model_load_from_file(p.model_file, params);
	if (p.model == NULL)
		die("the model cannot be opened");
	p.vocab = llama_vocab_n_tokens(llama_model_get_vocab(p.model));
	while (fgets(line, sizeof(line), stdin) != NULL && obey(&p, line))
		;
	return 0;
}
