/*-------------------------------------------------------------------------
 *
 * cli_synth.c
 *		dsocr-engine synth: write a checkpoint of full size from a formula.
 *
 * The folder is complete or without weights: every file is written under
 * another name, brought to disk and renamed, the weights last.
 *
 *-------------------------------------------------------------------------
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli_files.h"
#include "synth.h"

#define WEIGHTS_FILE "model-00001-of-000001.safetensors"
#define CHUNK ((int64_t) 1 << 20) /* values a thread computes and writes at a time */

static const char usage[] =
	"usage: dsocr-engine synth --spec DIR --out DIR [options]\n"
	"  --spec DIR         folder with tensors.json: names, shapes and distributions\n"
	"  --out DIR          folder to write, made if need be\n"
	"  --seed N           which weights (0)\n"
	"  --reference DIR    folder to copy configuration and tokenizer from\n";

/* A run of values of one tensor and its place in the file. */
typedef struct Chunk
{
	const DsocrSynthTensor *tensor;
	int64_t from;
	int64_t n;
	off_t place;
} Chunk;

/* Length and JSON of a safetensors file, padded so that the data is aligned. */
static bool
build_header(const DsocrSynthSpec *spec, DsocrBuffer *header, DsocrError *err)
{
	size_t place = 0;
	uint64_t length;
	bool ok = dsocr_buffer_append(header, "\0\0\0\0\0\0\0\0{", 9, err);

	for (int i = 0; ok && i < spec->n; i++)
	{
		const DsocrSynthTensor *t = &spec->tensors[i];
		size_t bytes = (size_t) t->count * sizeof(uint16_t);

		ok = dsocr_buffer_printf(header, err, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[",
								 i > 0 ? "," : "", t->name);
		for (int k = 0; ok && k < t->ndim; k++)
			ok = dsocr_buffer_printf(header, err, "%s%lld", k > 0 ? "," : "",
									 (long long) t->shape[k]);
		ok = ok && dsocr_buffer_printf(header, err, "],\"data_offsets\":[%zu,%zu]}", place,
									   place + bytes);
		place += bytes;
	}
	ok = ok && dsocr_buffer_append(header, "}", 1, err);
	while (ok && header->len % 64 != 0)
		ok = dsocr_buffer_append(header, " ", 1, err);
	if (!ok)
		return false;
	length = header->len - 8;
	for (int i = 0; i < 8; i++)
		header->data[i] = (char) (length >> (8 * i));
	return true;
}

/* All tensors cut into chunks; the data begins at place. */
static Chunk *
list_chunks(const DsocrSynthSpec *spec, off_t place, long *n_chunks, DsocrError *err)
{
	long n = 0;
	Chunk *chunks;

	for (int i = 0; i < spec->n; i++)
		n += (long) ((spec->tensors[i].count + CHUNK - 1) / CHUNK);
	chunks = dsocr_alloc((size_t) n, sizeof(*chunks), err);
	if (chunks == NULL)
		return NULL;
	n = 0;
	for (int i = 0; i < spec->n; i++)
	{
		const DsocrSynthTensor *t = &spec->tensors[i];

		for (int64_t from = 0; from < t->count; from += CHUNK)
		{
			int64_t count = t->count - from < CHUNK ? t->count - from : CHUNK;

			chunks[n++] = (Chunk){t, from, count, place};
			place += (off_t) count * (off_t) sizeof(uint16_t);
		}
	}
	*n_chunks = n;
	return chunks;
}

/* Each thread computes chunks and writes them to their places; 0 or an error number. */
static int
write_chunks(int fd, const Chunk *chunks, long n_chunks, uint64_t seed)
{
	int error = 0;

#pragma omp parallel
	{
		uint16_t *values = dsocr_alloc((size_t) CHUNK, sizeof(*values), NULL);

#pragma omp for schedule(dynamic, 1)
		for (long i = 0; i < n_chunks; i++)
		{
			const Chunk *c = &chunks[i];
			int failed;
			int mine = values != NULL ? 0 : ENOMEM;

#pragma omp atomic read
			failed = error;
			if (failed != 0)
				continue;
			if (mine == 0)
			{
				dsocr_synth_fill(c->tensor, seed, c->from, c->n, values);
				mine = dsocr_file_write(fd, values, (size_t) c->n * sizeof(*values), c->place);
			}
			if (mine != 0)
			{
#pragma omp atomic write
				error = mine;
			}
		}
		dsocr_free(values);
	}
	return error;
}

static bool
write_weights(const DsocrSynthSpec *spec, const char *dir, uint64_t seed, DsocrError *err)
{
	DsocrBuffer header = {0};
	Chunk *chunks = NULL;
	long n_chunks = 0;
	DsocrNewFile f;
	bool ok = build_header(spec, &header, err);

	if (ok)
	{
		chunks = list_chunks(spec, (off_t) header.len, &n_chunks, err);
		ok = chunks != NULL;
	}
	if (ok && dsocr_file_begin(&f, dir, WEIGHTS_FILE, err))
	{
		int error = dsocr_file_write(f.fd, header.data, header.len, 0);

		if (error == 0)
			error = write_chunks(f.fd, chunks, n_chunks, seed);
		errno = error;
		if (error != 0)
			ok = dsocr_file_fail(f.temporary, err);
		ok = dsocr_file_end(&f, ok, err);
	}
	else
		ok = false;
	dsocr_free(chunks);
	dsocr_buffer_free(&header);
	return ok;
}

/* The file in which each tensor lies: all in the same one. */
static bool
write_index(const DsocrSynthSpec *spec, const char *dir, DsocrError *err)
{
	DsocrBuffer index = {0};
	bool ok =
		dsocr_buffer_printf(&index, err, "{\"metadata\": {\"total_size\": %zu}, ", spec->bytes) &&
		dsocr_buffer_printf(&index, err, "\"weight_map\": {");

	for (int i = 0; ok && i < spec->n; i++)
		ok = dsocr_buffer_printf(&index, err, "%s\n\"%s\": \"" WEIGHTS_FILE "\"", i > 0 ? "," : "",
								 spec->tensors[i].name);
	ok = ok && dsocr_buffer_printf(&index, err, "}}\n") &&
		 dsocr_file_put(dir, "model.safetensors.index.json", index.data, index.len, err);
	dsocr_buffer_free(&index);
	return ok;
}

static bool
write_folder(const char *spec_dir, const char *out, const char *reference, uint64_t seed,
			 DsocrError *err)
{
	int64_t start = dsocr_now_us();
	char path[PATH_MAX];
	DsocrSynthSpec spec;
	bool ok = true;

	snprintf(path, sizeof(path), "%s/tensors.json", spec_dir);
	if (!dsocr_synth_read(path, &spec, err))
		return false;
	if (mkdir(out, 0755) != 0 && errno != EEXIST)
		ok = dsocr_file_fail(out, err);
	if (ok && reference != NULL)
		ok = dsocr_model_files_copy(reference, out, err);
	ok = ok && write_weights(&spec, out, seed, err) && write_index(&spec, out, err);
	ok = ok && dsocr_folder_sync(out, err);
	if (ok)
		printf("wrote %d tensors, %zu bytes, to %s in %.1f s\n", spec.n, spec.bytes, out,
			   (double) (dsocr_now_us() - start) / 1e6);
	dsocr_synth_free(&spec);
	return ok;
}

int
dsocr_cli_synth(int argc, char **argv)
{
	static const struct option options[] = {
		{"seed", required_argument, NULL, 's'}, {"spec", required_argument, NULL, 'p'},
		{"out", required_argument, NULL, 'o'},	{"reference", required_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},		{NULL, 0, NULL, 0},
	};
	const char *spec = NULL;
	const char *out = NULL;
	const char *reference = NULL;
	long long seed = 0;
	DsocrError err = {0};
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		switch (option)
		{
			case 's':
				if (!dsocr_cli_number("seed", optarg, 0, LLONG_MAX, &seed))
					return 2;
				break;
			case 'p':
				spec = optarg;
				break;
			case 'o':
				out = optarg;
				break;
			case 'r':
				reference = optarg;
				break;
			case 'h':
				fputs(usage, stdout);
				return 0;
			default:
				fputs(usage, stderr);
				return 2;
		}
	}
	if (spec == NULL || out == NULL || optind != argc)
	{
		fputs(usage, stderr);
		return 2;
	}
	if (!write_folder(spec, out, reference, (uint64_t) seed, &err))
	{
		fprintf(stderr, "dsocr-engine: %s\n", err.message);
		return 1;
	}
	return 0;
}
