/*-------------------------------------------------------------------------
 *
 * cli_quantize.c
 *		dsocr-engine quantize: write a model folder in 8 or 4 bits.
 *
 * The new folder holds one weight file with the same tensors in the same
 * order: the model is the same, and has the same fingerprint, as the original
 * quantized when it is opened.  The folder is complete or without weights.
 *
 *-------------------------------------------------------------------------
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli_files.h"
#include "quantize.h"

#define WEIGHTS_FILE "model.safetensors"
#define INDEX_FILE "model.safetensors.index.json"

static const char usage[] = "usage: dsocr-engine quantize MODEL OUT --weights NAME [options]\n"
							"  MODEL              model folder\n"
							"  OUT                folder to write, made if need be\n"
							"  --weights NAME     int8 or int4\n"
							"  --threads N        0 = all cores (0)\n";

typedef struct Quantize
{
	const char *model;
	const char *out;
	DsocrDtype dtype;
	int threads;
	const DsocrWeights *weights;
	int n; /* tensors */
	int n_quantized;
	DsocrError *err;
} Quantize;

static const char *
dtype_name(DsocrDtype dtype)
{
	static const char *const names[] = {
		[DSOCR_BF16] = "BF16", [DSOCR_F16] = "F16", [DSOCR_F32] = "F32", [DSOCR_F64] = "F64",
		[DSOCR_I64] = "I64",   [DSOCR_I32] = "I32", [DSOCR_I8] = "I8",	 [DSOCR_U8] = "U8"};

	return names[dtype];
}

static bool
count_tensors(Quantize *q)
{
	q->n = dsocr_weights_count(q->weights);
	for (int i = 0; i < q->n; i++)
	{
		const DsocrTensor *t = dsocr_weights_at(q->weights, i);

		if (dsocr_is_quantized(t->dtype))
			return dsocr_fail(q->err, DSOCR_E_MODEL, "tensor \"%s\" is quantized already", t->name);
		q->n_quantized += dsocr_quantize_wants(t) ? 1 : 0;
	}
	return q->n_quantized > 0 ||
		   dsocr_fail(q->err, DSOCR_E_MODEL, "\"%.160s\" has no weights to quantize", q->model);
}

/* The tensor in the new file: its bytes, and what the header says of it. */
static bool
put_entry(const Quantize *q, int i, DsocrBuffer *header, size_t *place)
{
	const DsocrTensor *t = dsocr_weights_at(q->weights, i);
	size_t bytes = dsocr_tensor_bytes(t);
	bool ok = dsocr_buffer_printf(header, q->err, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name,
								  dsocr_quantize_wants(t) ? "U8" : dtype_name(t->dtype));

	if (dsocr_quantize_wants(t))
	{
		DsocrQuantShape s;

		if (!dsocr_quant_shape(q->dtype, (size_t) t->shape[0], (size_t) t->shape[1], &s))
			return dsocr_fail(q->err, DSOCR_E_MODEL, "tensor \"%s\" is too large", t->name);
		bytes = s.bytes;
		ok = ok && dsocr_buffer_printf(header, q->err, "%zu,%zu", s.panels, s.panel_bytes);
	}
	else
		for (int k = 0; ok && k < t->ndim; k++)
			ok = dsocr_buffer_printf(header, q->err, "%s%lld", k > 0 ? "," : "",
									 (long long) t->shape[k]);
	ok = ok && dsocr_buffer_printf(header, q->err, "],\"data_offsets\":[%zu,%zu]}", *place,
								   *place + bytes);
	*place += bytes;
	return ok;
}

static bool
build_header(const Quantize *q, DsocrBuffer *header)
{
	size_t place = 0;
	uint64_t length;
	bool ok = dsocr_buffer_append(header, "\0\0\0\0\0\0\0\0", 8, q->err) &&
			  dsocr_buffer_printf(header, q->err,
								  "{\"__metadata__\":{\"format\":\"pt\",\"" DSOCR_QUANT_KEY
								  "\":\"" DSOCR_QUANT_VERSION "\"");

	for (int i = 0; ok && i < q->n; i++)
	{
		const DsocrTensor *t = dsocr_weights_at(q->weights, i);

		if (dsocr_quantize_wants(t))
			ok = dsocr_buffer_printf(header, q->err, ",\"%s\":\"%s %lld %lld\"", t->name,
									 dsocr_quant_name(q->dtype), (long long) t->shape[0],
									 (long long) t->shape[1]);
	}
	ok = ok && dsocr_buffer_append(header, "}", 1, q->err);
	for (int i = 0; ok && i < q->n; i++)
		ok = put_entry(q, i, header, &place);
	ok = ok && dsocr_buffer_append(header, "}", 1, q->err);
	while (ok && header->len % 64 != 0)
		ok = dsocr_buffer_append(header, " ", 1, q->err);
	if (!ok)
		return false;
	length = header->len - 8;
	for (int i = 0; i < 8; i++)
		header->data[i] = (char) (length >> (8 * i));
	return true;
}

/* Bytes of one tensor, quantized where they are to be. */
static bool
write_tensor(const Quantize *q, int i, const DsocrNewFile *f, off_t *place)
{
	const DsocrTensor *t = dsocr_weights_at(q->weights, i);
	size_t bytes = dsocr_tensor_bytes(t);
	const void *data = t->data;
	void *made = NULL;
	DsocrQuantShape s;
	bool ok;

	if (dsocr_quantize_wants(t))
	{
		if (!dsocr_quant_shape(q->dtype, (size_t) t->shape[0], (size_t) t->shape[1], &s))
			return dsocr_fail(q->err, DSOCR_E_MODEL, "tensor \"%s\" is too large", t->name);
		bytes = s.bytes;
		data = made = dsocr_alloc(bytes, 1, q->err);
		if (made == NULL || !dsocr_quantize_tensor(t, q->dtype, made, q->threads, q->err))
		{
			dsocr_free(made);
			return false;
		}
	}
	errno = dsocr_file_write(f->fd, data, bytes, *place);
	ok = errno == 0 || dsocr_file_fail(f->temporary, q->err);
	*place += (off_t) bytes;
	dsocr_free(made);
	return ok;
}

static bool
write_weights(const Quantize *q, off_t *size)
{
	DsocrBuffer header = {0};
	DsocrNewFile f;
	bool ok = build_header(q, &header) && dsocr_file_begin(&f, q->out, WEIGHTS_FILE, q->err);

	if (ok)
	{
		errno = dsocr_file_write(f.fd, header.data, header.len, 0);
		ok = errno == 0 || dsocr_file_fail(f.temporary, q->err);
		*size = (off_t) header.len;
		for (int i = 0; ok && i < q->n; i++)
			ok = write_tensor(q, i, &f, size);
		ok = dsocr_file_end(&f, ok, q->err);
	}
	dsocr_buffer_free(&header);
	return ok;
}

/* A folder of its own: not the model's, and no index that speaks of other files. */
static bool
make_folder(const Quantize *q)
{
	char path[PATH_MAX];
	struct stat from;
	struct stat to;
	int n = snprintf(path, sizeof(path), "%s/" INDEX_FILE, q->out);

	if (n < 0 || (size_t) n >= sizeof(path))
		return dsocr_fail(q->err, DSOCR_E_ARGUMENT, "name of the folder is too long");
	if (mkdir(q->out, 0755) != 0 && errno != EEXIST)
		return dsocr_file_fail(q->out, q->err);
	if (stat(q->model, &from) != 0)
		return dsocr_file_fail(q->model, q->err);
	if (stat(q->out, &to) != 0)
		return dsocr_file_fail(q->out, q->err);
	if (from.st_dev == to.st_dev && from.st_ino == to.st_ino)
		return dsocr_fail(q->err, DSOCR_E_ARGUMENT,
						  "a model cannot be quantized in its own folder");
	if (stat(path, &to) == 0)
		return dsocr_fail(q->err, DSOCR_E_ARGUMENT, "\"%.160s\" holds another model", q->out);
	return true;
}

static bool
quantize(Quantize *q)
{
	int64_t start = dsocr_now_us();
	DsocrWeights *w = dsocr_weights_open(q->model, q->err);
	off_t size = 0;
	bool ok;

	if (w == NULL)
		return false;
	q->weights = w;
	ok = count_tensors(q) && make_folder(q) && dsocr_model_files_copy(q->model, q->out, q->err) &&
		 write_weights(q, &size) && dsocr_folder_sync(q->out, q->err);
	if (ok)
		printf("wrote %d tensors, %d of them in %s, %lld bytes instead of %zu, to %s in %.1f s\n",
			   q->n, q->n_quantized, dsocr_quant_name(q->dtype), (long long) size,
			   dsocr_weights_bytes(w), q->out, (double) (dsocr_now_us() - start) / 1e6);
	dsocr_weights_close(w);
	return ok;
}

int
dsocr_cli_quantize(int argc, char **argv)
{
	static const struct option options[] = {{"weights", required_argument, NULL, 'w'},
											{"threads", required_argument, NULL, 't'},
											{"help", no_argument, NULL, 'h'},
											{NULL, 0, NULL, 0}};
	static const char *const names[] = {"int8", "int4"};
	DsocrError err = {0};
	Quantize q = {.err = &err};
	cpu_set_t set;
	long long threads = 0;
	int weights = -1;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (c == 'h')
		{
			fputs(usage, stdout);
			return 0;
		}
		if ((c == 'w' && (weights = dsocr_cli_name("weights", optarg, names, 2)) >= 0) ||
			(c == 't' && dsocr_cli_number("threads", optarg, 0, 256, &threads)))
			continue;
		fputs(usage, stderr);
		return 2;
	}
	if (weights < 0 || argc - optind != 2)
	{
		fputs(usage, stderr);
		return 2;
	}
	q.model = argv[optind];
	q.out = argv[optind + 1];
	q.dtype = weights == 0 ? DSOCR_INT8 : DSOCR_INT4;
	q.threads = (int) threads;
	if (threads == 0)
		q.threads = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
	if (quantize(&q))
		return 0;
	fprintf(stderr, "dsocr-engine: %s\n", err.message);
	return 1;
}
