/*-------------------------------------------------------------------------
 *
 * copy.cu
 *		Moving activations: to and from the host, by rows, from tables.
 *
 * Kernels that only move are templates over the widest unit that divides
 * everything concerned: 16 bytes in practice, one element for odd shapes.
 * Counts and strides are in units then.
 *
 *-------------------------------------------------------------------------
 */
#include "cuda.h"

#include <string.h>

#define COPY_THREADS 128
#define COPY_UNITS 4				/* a thread, at most */
#define COPY_GRID_Y 65535			/* what a grid allows */
#define COPY_PIECE ((size_t) 65536) /* elements converted on the host at a time */

/* dst[row][0 .. n) = src[row][0 .. n), rows by blockIdx.x */
template <typename U>
static __global__ void
__launch_bounds__(COPY_THREADS)
	copy_rows_kernel(U *dst, size_t dst_stride, const U *src, size_t src_stride, size_t n)
{
	size_t row = blockIdx.x;

	dsocr_grid_wait();
	dsocr_grid_release();
	for (size_t i = (size_t) blockIdx.y * COPY_THREADS + threadIdx.x; i < n;
		 i += (size_t) gridDim.y * COPY_THREADS)
		dst[row * dst_stride + i] = src[row * src_stride + i];
}

/* out[view * rows + row] = [A[view * (skip + rows) + skip + row], B[view * rows + row]] */
template <typename U>
static __global__ void
__launch_bounds__(COPY_THREADS)
	concat_kernel(U *out, const U *a, int dim_a, int skip, const U *b, int dim_b, int rows)
{
	size_t to = blockIdx.x;
	size_t view = to / (size_t) rows;
	const U *from_a = a + (to + (view + 1) * (size_t) skip) * (size_t) dim_a;
	const U *from_b = b + to * (size_t) dim_b;
	U *row = out + to * ((size_t) dim_a + (size_t) dim_b);

	dsocr_grid_wait();
	dsocr_grid_release();
	for (int i = (int) threadIdx.x; i < dim_a; i += COPY_THREADS)
		row[i] = from_a[i];
	for (int i = (int) threadIdx.x; i < dim_b; i += COPY_THREADS)
		row[dim_a + i] = from_b[i];
}

/* out[row][0 .. n) = table[ids[row]][0 .. n) */
template <typename U>
static __global__ void
__launch_bounds__(COPY_THREADS)
	embed_kernel(U *out, const U *table, size_t ld, const int32_t *ids, int n)
{
	size_t row = blockIdx.x;
	const U *from;

	dsocr_grid_wait();
	dsocr_grid_release();
	from = table + (size_t) ids[row] * ld;
	for (int i = (int) threadIdx.x; i < n; i += COPY_THREADS)
		out[row * (size_t) n + (size_t) i] = from[i];
}

/* The same for the last id of a row's text. */
template <typename U>
static __global__ void
__launch_bounds__(COPY_THREADS)
	embed_last_kernel(U *out, const U *table, size_t ld, DsocrCudaRows rows, const int32_t *texts,
					  int max_ids, int n)
{
	size_t row = blockIdx.x;
	int slot;
	int last;
	size_t id;

	dsocr_grid_wait();
	dsocr_grid_release();
	slot = dsocr_row_slot(rows, (int) row);
	last = slot < 0 ? -1 : rows.len[slot] - 1;
	id = last < 0 ? 0 : (size_t) texts[(size_t) slot * (size_t) max_ids + (size_t) last];
	for (int i = (int) threadIdx.x; i < n; i += COPY_THREADS)
	{
		U zero = {};

		out[row * (size_t) n + (size_t) i] = last < 0 ? zero : table[id * ld + (size_t) i];
	}
}

/* V elements as one access. */
template <typename T, int V> struct CopyPack
{
	alignas(sizeof(T) * V) T v[V];
};

/* X[repeat][0 .. n) += table[0 .. n), in packs; repeats by blockIdx.y */
template <typename T, int V>
static __global__ void
__launch_bounds__(COPY_THREADS) add_kernel(T *x, const T *table, size_t n, int repeats)
{
	typedef CopyPack<T, V> Pack;

	dsocr_grid_wait();
	dsocr_grid_release();
	for (int r = (int) blockIdx.y; r < repeats; r += (int) gridDim.y)
		for (size_t i = (size_t) blockIdx.x * COPY_THREADS + threadIdx.x; i < n;
			 i += (size_t) gridDim.x * COPY_THREADS)
		{
			Pack *to = (Pack *) x + (size_t) r * n + i;
			Pack a = *to;
			Pack b = ((const Pack *) table)[i];

			for (int j = 0; j < V; j++)
				a.v[j] = dsocr_from_float<T>(dsocr_to_float(a.v[j]) + dsocr_to_float(b.v[j]));
			*to = a;
		}
}

/* ---- launchers ---- */

/* Are addresses and sizes, or'ed together in bytes, multiples of unit? */
static bool
copy_fits(size_t bits, size_t unit)
{
	return bits % unit == 0;
}

/* Blocks for n units of one row. */
static unsigned int
copy_pieces(size_t n)
{
	size_t each = (size_t) COPY_THREADS * COPY_UNITS;
	size_t pieces = (n + each - 1) / each;

	return (unsigned int) (pieces < COPY_GRID_Y ? pieces : COPY_GRID_Y);
}

template <typename U>
static void
copy_rows_as(DsocrCuda *c, void *dst, size_t dst_bytes, const void *src, size_t src_bytes,
			 size_t bytes, size_t rows)
{
	size_t n = bytes / sizeof(U);

	dsocr_cuda_check(
		c,
		dsocr_launch_early(c->early, copy_rows_kernel<U>, dim3((unsigned int) rows, copy_pieces(n)),
						   dim3(COPY_THREADS), 0, c->stream, (U *) dst, dst_bytes / sizeof(U),
						   (const U *) src, src_bytes / sizeof(U), n),
		"copy_rows");
}

void
dsocr_cuda_copy_rows(DsocrBackend *be, void *dst, size_t dst_stride, const void *src,
					 size_t src_stride, size_t n, size_t rows)
{
	DsocrCuda *c = (DsocrCuda *) be;
	size_t e = be->act_size;
	size_t bits = (size_t) dst | (size_t) src | dst_stride * e | src_stride * e | n * e;

	if (n == 0 || rows == 0)
		return;
	if (rows == 1)
		bits = (size_t) dst | (size_t) src | n * e;
	if (copy_fits(bits, sizeof(uint4)))
		copy_rows_as<uint4>(c, dst, dst_stride * e, src, src_stride * e, n * e, rows);
	else if (copy_fits(bits, sizeof(uint32_t)))
		copy_rows_as<uint32_t>(c, dst, dst_stride * e, src, src_stride * e, n * e, rows);
	else
		copy_rows_as<uint16_t>(c, dst, dst_stride * e, src, src_stride * e, n * e, rows);
}

template <typename U>
static void
concat_as(DsocrCuda *c, void *out, const void *a, size_t bytes_a, int skip, const void *b,
		  size_t bytes_b, int views, int rows)
{
	dsocr_cuda_check(c,
					 dsocr_launch_early(c->early, concat_kernel<U>,
										dim3((unsigned int) views * (unsigned int) rows),
										dim3(COPY_THREADS), 0, c->stream, (U *) out, (const U *) a,
										(int) (bytes_a / sizeof(U)), skip, (const U *) b,
										(int) (bytes_b / sizeof(U)), rows),
					 "concat");
}

void
dsocr_cuda_concat(DsocrBackend *be, void *out, const void *a, int dim_a, int skip, const void *b,
				  int dim_b, int views, int rows)
{
	DsocrCuda *c = (DsocrCuda *) be;
	size_t bytes_a = (size_t) dim_a * be->act_size;
	size_t bytes_b = (size_t) dim_b * be->act_size;
	size_t bits = (size_t) out | (size_t) a | (size_t) b | bytes_a | bytes_b;

	if (views <= 0 || rows <= 0)
		return;
	if (copy_fits(bits, sizeof(uint4)))
		concat_as<uint4>(c, out, a, bytes_a, skip, b, bytes_b, views, rows);
	else if (copy_fits(bits, sizeof(uint32_t)))
		concat_as<uint32_t>(c, out, a, bytes_a, skip, b, bytes_b, views, rows);
	else
		concat_as<uint16_t>(c, out, a, bytes_a, skip, b, bytes_b, views, rows);
}

/* Bits of a gather from a matrix: addresses, row lengths and distances in bytes. */
static size_t
embed_bits(const DsocrCuda *c, const void *out, const DsocrMatrix *table)
{
	return (size_t) out | (size_t) table->data | (size_t) table->ld * c->base.act_size |
		   (size_t) table->k * c->base.act_size;
}

template <typename U>
static void
embed_as(DsocrCuda *c, void *out, const DsocrMatrix *table, const int32_t *ids, int n)
{
	size_t e = c->base.act_size;

	dsocr_cuda_check(c,
					 dsocr_launch_early(c->early, embed_kernel<U>, dim3((unsigned int) n),
										dim3(COPY_THREADS), 0, c->stream, (U *) out,
										(const U *) table->data, (size_t) table->ld * e / sizeof(U),
										ids, (int) ((size_t) table->k * e / sizeof(U))),
					 "embed");
}

void
dsocr_cuda_embed(DsocrBackend *be, void *out, const DsocrMatrix *table, const int32_t *ids, int n)
{
	DsocrCuda *c = (DsocrCuda *) be;
	size_t bits = embed_bits(c, out, table);
	size_t bytes = (size_t) n * sizeof(int32_t);
	int32_t *at;

	if (n <= 0)
		return;
	at = (int32_t *) dsocr_cuda_scratch(c, DSOCR_SCRATCH_IDS, bytes);
	if (at == NULL)
		return;
	dsocr_cuda_upload(c, at, ids, bytes);
	if (copy_fits(bits, sizeof(uint4)))
		embed_as<uint4>(c, out, table, at, n);
	else if (copy_fits(bits, sizeof(uint32_t)))
		embed_as<uint32_t>(c, out, table, at, n);
	else
		embed_as<uint16_t>(c, out, table, at, n);
}

template <typename U>
static void
embed_last_as(DsocrCuda *c, void *out, const DsocrMatrix *table, const DsocrRows *rows)
{
	size_t e = c->base.act_size;

	dsocr_cuda_check(
		c,
		dsocr_launch_early(c->early, embed_last_kernel<U>, dim3((unsigned int) rows->n),
						   dim3(COPY_THREADS), 0, c->stream, (U *) out, (const U *) table->data,
						   (size_t) table->ld * e / sizeof(U), dsocr_cuda_rows(c, rows),
						   (const int32_t *) c->texts.ids, c->texts.max_ids,
						   (int) ((size_t) table->k * e / sizeof(U))),
		"embed_last");
}

void
dsocr_cuda_embed_last(DsocrBackend *be, void *out, const DsocrMatrix *table, const DsocrRows *rows)
{
	DsocrCuda *c = (DsocrCuda *) be;
	size_t bits = embed_bits(c, out, table);

	if (rows->n <= 0)
		return;
	if (copy_fits(bits, sizeof(uint4)))
		embed_last_as<uint4>(c, out, table, rows);
	else if (copy_fits(bits, sizeof(uint32_t)))
		embed_last_as<uint32_t>(c, out, table, rows);
	else
		embed_last_as<uint16_t>(c, out, table, rows);
}

template <typename T, int V>
static void
add_as(DsocrCuda *c, void *x, const void *table, size_t n, int repeats)
{
	unsigned int y = (unsigned int) (repeats < COPY_GRID_Y ? repeats : COPY_GRID_Y);

	dsocr_cuda_check(c,
					 dsocr_launch_early(c->early, add_kernel<T, V>, dim3(copy_pieces(n / V), y),
										dim3(COPY_THREADS), 0, c->stream, (T *) x,
										(const T *) table, n / V, repeats),
					 "add");
}

void
dsocr_cuda_add(DsocrBackend *be, void *x, const void *table, size_t n, int repeats)
{
	DsocrCuda *c = (DsocrCuda *) be;
	bool wide = copy_fits((size_t) x | (size_t) table | n * be->act_size, sizeof(uint4));

	if (n == 0 || repeats <= 0)
		return;
	if (dsocr_cuda_bf16(c) && wide)
		add_as<__nv_bfloat16, 8>(c, x, table, n, repeats);
	else if (dsocr_cuda_bf16(c))
		add_as<__nv_bfloat16, 1>(c, x, table, n, repeats);
	else if (wide)
		add_as<float, 4>(c, x, table, n, repeats);
	else
		add_as<float, 1>(c, x, table, n, repeats);
}

/* ---- host ---- */

/* Host memory for a piece of n elements; NULL and out_of_memory when there is none. */
static uint16_t *
copy_piece(DsocrCuda *c, size_t n)
{
	uint16_t *piece =
		(uint16_t *) dsocr_alloc(n < COPY_PIECE ? n : COPY_PIECE, sizeof(*piece), NULL);

	if (piece == NULL)
		c->out_of_memory = true;
	return piece;
}

void
dsocr_cuda_write(DsocrBackend *be, void *act, const float *host, size_t n)
{
	DsocrCuda *c = (DsocrCuda *) be;
	uint16_t *piece;

	if (!dsocr_cuda_bf16(c))
	{
		dsocr_cuda_upload(c, act, host, n * sizeof(float));
		return;
	}
	piece = copy_piece(c, n);
	for (size_t from = 0; piece != NULL && from < n; from += COPY_PIECE)
	{
		size_t count = n - from < COPY_PIECE ? n - from : COPY_PIECE;

		for (size_t i = 0; i < count; i++)
			piece[i] = dsocr_f32_to_bf16(host[from + i]);
		dsocr_cuda_upload(c, (uint16_t *) act + from, piece, count * sizeof(*piece));
	}
	dsocr_free(piece);
}

void
dsocr_cuda_read(DsocrBackend *be, float *host, const void *act, size_t n)
{
	DsocrCuda *c = (DsocrCuda *) be;
	uint16_t *piece;

	if (!dsocr_cuda_bf16(c))
	{
		dsocr_cuda_download(c, host, act, n * sizeof(float));
		return;
	}
	piece = copy_piece(c, n);
	for (size_t from = 0; piece != NULL && from < n; from += COPY_PIECE)
	{
		size_t count = n - from < COPY_PIECE ? n - from : COPY_PIECE;

		dsocr_cuda_download(c, piece, (const uint16_t *) act + from, count * sizeof(*piece));
		for (size_t i = 0; i < count; i++)
			host[from + i] = dsocr_bf16_to_f32(piece[i]);
	}
	dsocr_free(piece);
}
