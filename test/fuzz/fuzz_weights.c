/*-------------------------------------------------------------------------
 *
 * fuzz_weights.c
 *		The safetensors reader.
 *
 * The input is the JSON and the data behind it; the length field in front is
 * made to fit, unless the first byte says that it is part of the input.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "weights.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every byte of every tensor must be readable and lie in the file. */
static void
use(const DsocrWeights *w, size_t file_size)
{
	volatile float sum = 0;
	size_t bytes = 0;

	for (int i = 0; i < dsocr_weights_count(w); i++)
	{
		const DsocrTensor *t = dsocr_weights_at(w, i);

		if (dsocr_weights_find(w, t->name) != t)
			abort();
		for (int64_t k = 0; k < t->count; k++)
			sum += dsocr_tensor_get(t, k);
		bytes += dsocr_tensor_bytes(t);
	}
	if (bytes != dsocr_weights_bytes(w) || bytes + 10 > file_size)
		abort();
}

static void
write_all(int fd, const uint8_t *bytes, size_t n)
{
	if (n > 0 && write(fd, bytes, n) != (ssize_t) n)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("weights", 0);
	char path[64];
	uint8_t length[8] = {0};
	DsocrError err = {0};
	DsocrWeights *w;
	size_t file_size = size;

	if (fd < 0)
		abort();
	if (size > 1 && data[0] != 0)
	{
		/* the header ends behind the last brace */
		size_t n = size - 1;

		data++;
		size--;
		while (n > 0 && data[n - 1] != '}')
			n--;
		for (int i = 0; i < 8; i++)
			length[i] = (uint8_t) (n >> (8 * i));
		write_all(fd, length, 8);
		file_size = size + 8;
	}
	write_all(fd, data, size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	w = dsocr_weights_open_file(path, &err);
	if (w != NULL)
		use(w, file_size);
	else if (err.code != DSOCR_E_MODEL || err.message[0] == '\0')
		abort();
	dsocr_weights_close(w);
	close(fd);
	return 0;
}
