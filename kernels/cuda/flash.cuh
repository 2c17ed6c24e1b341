/*-------------------------------------------------------------------------
 *
 * flash.cuh
 *		Attention in bf16 on tensor cores, scores never in memory.
 *
 * A block of four warps takes 64 * MT queries of one head, a warp 16 * MT of
 * them, and runs over the keys in tiles of 64.  A tile is a rectangle of the
 * window, R = 64 / C rows by C columns, so that position terms need no
 * division and almost no memory:
 *	 - terms towards a key's column stay in registers, since the tiles go down
 *	   a strip of C columns before they go on to the next; they are where the
 *	   accumulators start, in units of q.k;
 *	 - terms towards a key's row are R numbers a query and tile; they join the
 *	   maximum that the exponent subtracts.
 * Both come from products with the position tables at the start, through
 * shared memory.  Keys outside of the window have terms of minus infinity.
 * C = 0 is the form without positions, with tiles of 64 keys in a row.
 *
 * The maximum of the running softmax may lag behind by 2^FLASH_SLACK, which
 * spares most corrections of sums and outputs.  Rows in shared memory are HD elements; their 16-byte pieces are permuted
 * by the row, so that eight rows' pieces of one column lie in different banks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_FLASH_CUH
#define DSOCR_FLASH_CUH

#include "attention.cuh"

#define FLASH_WARPS 4
#define FLASH_THREADS (FLASH_WARPS * 32)
#define FLASH_KEYS 64
#define FLASH_TABLE (4 * FLASH_KEYS) /* rows of position tables at a time: both stages */
#define FLASH_SLACK 8.0f
#define FLASH_LOG2E 1.4426950408889634f

/* Kernel argument */
typedef struct FlashTask
{
	AttentionShape shape;
	__nv_bfloat16 *out;		  /* [views, height * side, dim] */
	const __nv_bfloat16 *qkv; /* [views, height * side, 3 * dim] */
	const float *rel_h;		  /* [2 * rows - 1, head_dim] */
	const float *rel_w;		  /* [2 * cols - 1, head_dim] */
	const float *padding;	  /* [3 * dim] */
	float scale;			  /* log2(e) / sqrt(head_dim) */
	float root;				  /* sqrt(head_dim) */
	int steps;				  /* tiles down a window */
	int row_pitch;			  /* terms of a query */
	int col_pitch;
} FlashTask;

/* What a block works on, and a thread's place in it. */
typedef struct FlashPlace
{
	AttentionWindow window;
	const int *tokens; /* shared: tokens of the block's queries among all views, -1 for none */
	int base;		   /* first token of the view */
	int head;
	int first; /* query of the window */
	int count; /* queries of the window */
	int warp;
	int lane;
} FlashPlace;

/* The next tile to load: what the thread's first key is. */
typedef struct FlashCursor
{
	const __nv_bfloat16 *key; /* its 16 bytes, if it is a token of the picture */
	int row;				  /* in the window */
	int col;
} FlashCursor;

/* Blocks that should find room on a multiprocessor by their registers. */
static constexpr int
flash_blocks(int head_dim, int mt, int columns)
{
	return mt == 2 || head_dim > 64 ? 2 : columns > 0 ? 4 : 3;
}

/* Where the 16-byte piece `chunk` of a row lies in a tile, in elements. */
template <int HD>
static __device__ __forceinline__ int
flash_at(int row, int chunk)
{
	return row * HD + (chunk ^ (HD == 32 ? row >> 1 & 3 : row & 7)) * 8;
}

static __device__ __forceinline__ uint4
flash_round8(const float *from)
{
	float4 lo = __ldg((const float4 *) from);
	float4 hi = __ldg((const float4 *) from + 1);

	return make_uint4(dsocr_pack_bf16(lo.x, lo.y), dsocr_pack_bf16(lo.z, lo.w),
					  dsocr_pack_bf16(hi.x, hi.y), dsocr_pack_bf16(hi.z, hi.w));
}

/* Tokens of the block's queries; q[MT] gets the warp's as left operands, zeros where is none. */
template <int HD, int MT>
static __device__ __forceinline__ void
flash_load_queries(uint32_t q[MT][HD / 16][4], int *tokens, const FlashTask &task,
				   const FlashPlace &place)
{
	const AttentionShape &s = task.shape;
	const __nv_bfloat16 *first = task.qkv + place.head * s.head_dim + place.lane % 4 * 2;

	if (threadIdx.x < FLASH_WARPS * 16 * MT)
	{
		int i = place.first + threadIdx.x;
		int y = place.window.top + i / place.window.real_cols;
		int x = place.window.left + i % place.window.real_cols;

		tokens[threadIdx.x] = i < place.count ? place.base + y * s.side + x : -1;
	}
	__syncthreads();
	dsocr_grid_wait();
#pragma unroll
	for (int m = 0; m < 2 * MT; m++)
	{
		int token = tokens[(place.warp * MT * 2 + m) * 8 + place.lane / 4];
		const __nv_bfloat16 *from = first + (size_t) max(token, 0) * (3 * s.dim);

#pragma unroll
		for (int d = 0; d < HD / 8; d++)
		{
			uint32_t v = 0;

			if (token >= 0 && d * 8 < s.head_dim)
				v = *(const uint32_t *) (from + d * 8);
			q[m / 2][d / 2][m % 2 + d % 2 * 2] = v;
		}
	}
}

template <int HD, int C>
static __device__ __forceinline__ FlashCursor
flash_cursor(const FlashTask &task, const FlashPlace &place)
{
	const int width = C > 0 ? C : FLASH_KEYS;
	const AttentionShape &s = task.shape;
	int key = threadIdx.x / (HD / 8);
	FlashCursor c;
	ptrdiff_t token;

	c.row = key / width;
	c.col = key % width;
	token =
		place.base + (ptrdiff_t) (place.window.top + c.row) * s.side + place.window.left + c.col;
	c.key = task.qkv + token * (3 * s.dim) + s.dim + place.head * s.head_dim +
			threadIdx.x % (HD / 8) * 8;
	return c;
}

/*
 * Start the copy of the cursor's tile to stage[2][FLASH_KEYS][HD], keys and
 * values, and move on.  Tokens that pad the picture come from the bias,
 * whatever else is outside of the window is zeros.
 */
template <int HD, int C, bool PADDED>
static __device__ __forceinline__ void
flash_load(__nv_bfloat16 *stage, FlashCursor &c, const FlashTask &task, const FlashPlace &place)
{
	const int width = C > 0 ? C : FLASH_KEYS;
	const int height = FLASH_KEYS / width;
	const int each = FLASH_THREADS / (HD / 8); /* keys at a time */
	const AttentionShape &s = task.shape;
	const int steps = C > 0 ? task.steps : 1;
	int line = s.side * (3 * s.dim);
	int chunk = threadIdx.x % (HD / 8);
	bool there = chunk * 8 < s.head_dim;
	__nv_bfloat16 *to = stage + flash_at<HD>(threadIdx.x / (HD / 8), chunk);

#pragma unroll
	for (int i = 0; i < FLASH_KEYS / each; i++, to += each * HD)
	{
		int row = i * each / width; /* beyond those of the thread's first key */
		int col = i * each % width;
		const __nv_bfloat16 *from = c.key + (ptrdiff_t) row * line + col * (3 * s.dim);
		bool real =
			there && c.row + row < place.window.real_rows && c.col + col < place.window.real_cols;

		if (PADDED && there && !real && c.row + row < s.rows && c.col + col < s.cols)
		{
			const float *bias = task.padding + s.dim + place.head * s.head_dim + chunk * 8;

			*(uint4 *) to = flash_round8(bias);
			*(uint4 *) (to + FLASH_KEYS * HD) = flash_round8(bias + s.dim);
			continue;
		}
		dsocr_cp_async16(to, from, real);
		dsocr_cp_async16(to + FLASH_KEYS * HD, from + s.dim, real);
	}
	c.row += height;
	c.key += (ptrdiff_t) height * line;
	if (c.row >= steps * height)
	{
		c.row -= steps * height;
		c.col += width;
		c.key += (ptrdiff_t) width * (3 * s.dim) - (ptrdiff_t) steps * height * line;
	}
}

/* d[2][MT][4] += queries times 16 rows of a tile; at is the lane's piece of them */
template <int HD, int MT>
static __device__ __forceinline__ void
flash_scores(float (*d)[MT][4], const uint32_t q[MT][HD / 16][4], const __nv_bfloat16 *rows, int at)
{
#pragma unroll
	for (int k = 0; k < HD / 16; k++)
	{
		uint32_t r[4];

		dsocr_ldmatrix_x4(r, rows + (at ^ 16 * k));
#pragma unroll
		for (int m = 0; m < MT; m++)
		{
			dsocr_mma_bf16(d[0][m], q[m][k], r);
			dsocr_mma_bf16(d[1][m], q[m][k], r + 2);
		}
	}
}

/* One of the two position tables, as a block needs it. */
typedef struct FlashTable
{
	const float *rel; /* first row that is needed */
	int n;			  /* rows of it */
	float *terms;	  /* shared [queries][pitch] */
	int pitch;
	int reach; /* keys along this axis */
	int end;   /* terms that are read, a multiple of 8 */
	float scale;
} FlashTable;

/* The least and the greatest place of the warp's queries. */
template <int MT>
static __device__ __forceinline__ void
flash_span(const int place_of[2 * MT], int *low, int *high)
{
	*low = *high = place_of[0];
#pragma unroll
	for (int m = 1; m < 2 * MT; m++)
	{
		*low = min(*low, place_of[m]);
		*high = max(*high, place_of[m]);
	}
	for (int i = 16; i >= 4; i >>= 1)
	{
		*low = min(*low, __shfl_xor_sync(0xffffffffu, *low, i));
		*high = max(*high, __shfl_xor_sync(0xffffffffu, *high, i));
	}
}

/*
 * Terms of the block's queries along one axis.  place_of[m] is where the
 * thread's query m stands on the axis, less the first such place of the block.
 */
template <int HD, int MT>
static __device__ __forceinline__ void
flash_terms(const FlashTable &t, const int place_of[2 * MT], const uint32_t q[MT][HD / 16][4],
			__nv_bfloat16 *stage, int at, const FlashTask &task, const FlashPlace &place)
{
	const int pieces = HD / 8;
	int flip = (place.lane / 4 & 1) * 4;
	float *terms = t.terms + (place.warp * MT * 16 + place.lane / 4) * t.pitch;
	int low;
	int high;

	flash_span<MT>(place_of, &low, &high);
	for (int m = 0; m < 2 * MT; m++)
		for (int j = t.reach + place.lane % 4; j < t.end; j += 4)
			terms[m * 8 * t.pitch + (j ^ flip)] = -INFINITY;
	for (int base = 0; base < t.n; base += FLASH_TABLE)
	{
		int n = min(t.n - base, FLASH_TABLE);

		__syncthreads();
		for (int i = threadIdx.x; i < (n + 15) / 16 * 16 * pieces; i += FLASH_THREADS)
		{
			int row = i / pieces;
			int chunk = i % pieces;
			uint4 v = make_uint4(0, 0, 0, 0);

			if (row < n && chunk * 8 < task.shape.head_dim)
				v = flash_round8(t.rel + (size_t) (base + row) * task.shape.head_dim + chunk * 8);
			*(uint4 *) (stage + flash_at<HD>(row, chunk)) = v;
		}
		__syncthreads();
		for (int r = 0; r < n; r += 16)
		{
			float d[2][MT][4] = {};

			/* a query at p needs the rows p .. p + reach - 1 */
			if (base + r > high + t.reach - 1 || base + r + 15 < low)
				continue;
			flash_scores<HD, MT>(d, q, stage + r * HD, at);
#pragma unroll
			for (int i = 0; i < 8 * MT; i++)
			{
				int m = i / 4;
				int j = place_of[m] + t.reach - 1 - base - r - place.lane % 4 * 2 - i / 2 % 2 * 8 -
						i % 2;

				if ((unsigned) j < (unsigned) t.reach)
					terms[m * 8 * t.pitch + (j ^ flip)] =
						d[i / 2 % 2][m / 2][m % 2 * 2 + i % 2] * t.scale;
			}
		}
	}
}

/* Position terms of all queries of the block: row_terms[queries][row_pitch], col_terms. */
template <int HD, int MT>
static __device__ __forceinline__ void
flash_positions(float *row_terms, float *col_terms, const uint32_t q[MT][HD / 16][4],
				__nv_bfloat16 *stage, int at, const FlashTask &task, const FlashPlace &place)
{
	const AttentionShape &s = task.shape;
	int cols = place.window.real_cols;
	int last = min(place.first + FLASH_WARPS * 16 * MT, place.count) - 1;
	int top = place.first / cols;
	int bottom = last / cols;
	int left = top == bottom ? place.first % cols : 0;
	int right = top == bottom ? last % cols : cols - 1;
	int y[2 * MT];
	int x[2 * MT];
	FlashTable t;

#pragma unroll
	for (int m = 0; m < 2 * MT; m++)
	{
		int token = place.tokens[(place.warp * MT * 2 + m) * 8 + place.lane / 4];

		y[m] = token < 0 ? 0 : (token - place.base) / s.side - place.window.top - top;
		x[m] = token < 0 ? 0 : (token - place.base) % s.side - place.window.left - left;
	}
	t.rel = task.rel_h + (size_t) top * s.head_dim;
	t.n = bottom - top + s.rows;
	t.terms = row_terms;
	t.pitch = task.row_pitch;
	t.reach = s.rows;
	t.end = (s.rows + 7) / 8 * 8;
	t.scale = FLASH_LOG2E;
	flash_terms<HD, MT>(t, y, q, stage, at, task, place);
	t.rel = task.rel_w + (size_t) left * s.head_dim;
	t.n = right - left + s.cols;
	t.terms = col_terms;
	t.pitch = task.col_pitch;
	t.reach = s.cols;
	t.end = task.col_pitch;
	t.scale = task.root;
	flash_terms<HD, MT>(t, x, q, stage, at, task, place);
	__syncthreads(); /* the stages are free again */
}

/* The softmax so far of the warp's queries: rows lane / 4 and 8 more of each m. */
template <int HD, int MT> struct FlashSums
{
	float out[MT][HD / 8][4];
	float top[MT][2]; /* what exponents subtract */
	float sum[MT][2]; /* of this lane's keys */
};

/*
 * Scores become weights 2^(score * scale + shift - top).  shift[m][half][i] is
 * the term of the i-th of G groups of n-tiles, which are rows of the window.
 */
template <int HD, int MT, int G>
static __device__ __forceinline__ void
flash_softmax(float score[8][MT][4], float shift[MT][2][G], FlashSums<HD, MT> &sums, float scale)
{
	float most[MT][2];
	bool over = false;

#pragma unroll
	for (int i = 0; i < 2 * MT; i++)
	{
		int m = i / 2;
		int h = i % 2;

		most[m][h] = -INFINITY;
#pragma unroll
		for (int g = 0; g < G; g++)
		{
			float top = -INFINITY;

#pragma unroll
			for (int n = g * (8 / G); n < (g + 1) * (8 / G); n++)
				top = fmaxf(top, fmaxf(score[n][m][2 * h], score[n][m][2 * h + 1]));
			most[m][h] = fmaxf(most[m][h], fmaf(top, scale, shift[m][h][g]));
		}
		most[m][h] = fmaxf(most[m][h], __shfl_xor_sync(0xffffffffu, most[m][h], 1));
		most[m][h] = fmaxf(most[m][h], __shfl_xor_sync(0xffffffffu, most[m][h], 2));
		over |= most[m][h] > sums.top[m][h] + FLASH_SLACK;
	}
	if (__ballot_sync(0xffffffffu, over) != 0)
	{
#pragma unroll
		for (int i = 0; i < 2 * MT; i++)
		{
			int m = i / 2;
			int h = i % 2;
			float top = fmaxf(most[m][h], sums.top[m][h]);
			float correct = dsocr_exp2(sums.top[m][h] - top);

			sums.top[m][h] = top;
			sums.sum[m][h] *= correct;
#pragma unroll
			for (int n = 0; n < HD / 8; n++)
			{
				sums.out[m][n][2 * h] *= correct;
				sums.out[m][n][2 * h + 1] *= correct;
			}
		}
	}
#pragma unroll
	for (int i = 0; i < 2 * MT; i++)
	{
		int m = i / 2;
		int h = i % 2;

#pragma unroll
		for (int n = 0; n < 8; n++)
		{
			float less = shift[m][h][n / (8 / G)] - sums.top[m][h];

#pragma unroll
			for (int e = 2 * h; e < 2 * h + 2; e++)
			{
				score[n][m][e] = dsocr_exp2(fmaf(score[n][m][e], scale, less));
				sums.sum[m][h] += score[n][m][e];
			}
		}
	}
}

/* out += weights times the tile's values */
template <int HD, int MT>
static __device__ __forceinline__ void
flash_values(FlashSums<HD, MT> &sums, const float weight[8][MT][4], const __nv_bfloat16 *values,
			 int at)
{
#pragma unroll
	for (int k = 0; k < FLASH_KEYS / 16; k++)
	{
		uint32_t p[MT][4];

#pragma unroll
		for (int m = 0; m < MT; m++)
		{
			p[m][0] = dsocr_pack_bf16(weight[2 * k][m][0], weight[2 * k][m][1]);
			p[m][1] = dsocr_pack_bf16(weight[2 * k][m][2], weight[2 * k][m][3]);
			p[m][2] = dsocr_pack_bf16(weight[2 * k + 1][m][0], weight[2 * k + 1][m][1]);
			p[m][3] = dsocr_pack_bf16(weight[2 * k + 1][m][2], weight[2 * k + 1][m][3]);
		}
#pragma unroll
		for (int d = 0; d < HD / 16; d++)
		{
			uint32_t r[4];

			dsocr_ldmatrix_x4_trans(r, values + k * 16 * HD + (at ^ 16 * d));
#pragma unroll
			for (int m = 0; m < MT; m++)
			{
				dsocr_mma_bf16(sums.out[m][2 * d], p[m], r);
				dsocr_mma_bf16(sums.out[m][2 * d + 1], p[m], r + 2);
			}
		}
	}
}

template <int HD, int MT>
static __device__ __forceinline__ void
flash_store(const FlashSums<HD, MT> &sums, const FlashTask &task, const FlashPlace &place)
{
	const AttentionShape &s = task.shape;
	__nv_bfloat16 *out = task.out + place.head * s.head_dim + place.lane % 4 * 2;

#pragma unroll
	for (int m = 0; m < 2 * MT; m++)
	{
		int token = place.tokens[(place.warp * MT * 2 + m) * 8 + place.lane / 4];
		__nv_bfloat16 *to = out + (size_t) max(token, 0) * s.dim;
		float sum = sums.sum[m / 2][m % 2];
		float inverse;

		sum += __shfl_xor_sync(0xffffffffu, sum, 1);
		sum += __shfl_xor_sync(0xffffffffu, sum, 2);
		inverse = __fdividef(1.0f, sum);
#pragma unroll
		for (int d = 0; d < HD / 8; d++)
			if (token >= 0 && d * 8 < s.head_dim)
				*(uint32_t *) (to + d * 8) =
					dsocr_pack_bf16(sums.out[m / 2][d][m % 2 * 2] * inverse,
									sums.out[m / 2][d][m % 2 * 2 + 1] * inverse);
	}
}

/* Column terms of a strip, where accumulators start. */
template <int MT, int ACROSS>
static __device__ __forceinline__ void
flash_start_strip(float start[ACROSS][MT][4], const float *terms, int pitch, int col, int lane)
{
#pragma unroll
	for (int i = 0; i < ACROSS * 2 * MT; i++)
	{
		int n = i / (2 * MT);
		int m = i % (2 * MT);
		int j = (col + n * 8 + lane % 4 * 2) ^ (lane / 4 & 1) * 4;
		float2 v = *(const float2 *) (terms + m * 8 * pitch + j);

		start[n][m / 2][m % 2 * 2] = v.x;
		start[n][m / 2][m % 2 * 2 + 1] = v.y;
	}
}

/* Row terms of a tile: four at a time. */
template <int MT, int G>
static __device__ __forceinline__ void
flash_shift(float shift[MT][2][G], const float *terms, int pitch, int row, int lane)
{
#pragma unroll
	for (int m = 0; m < 2 * MT; m++)
	{
#pragma unroll
		for (int g = 0; g + 4 <= G; g += 4)
		{
			float4 v = *(const float4 *) (terms + m * 8 * pitch + ((row + g) ^ (lane / 4 & 1) * 4));

			shift[m / 2][m % 2][g] = v.x;
			shift[m / 2][m % 2][g + 1] = v.y;
			shift[m / 2][m % 2][g + 2] = v.z;
			shift[m / 2][m % 2][g + 3] = v.w;
		}
	}
}

/* Scores of keys from `end` on are no keys'. */
template <int MT>
static __device__ __forceinline__ void
flash_cut(float score[8][MT][4], int end, int lane)
{
#pragma unroll
	for (int i = 0; i < 8 * MT * 4; i++)
		if (i / (4 * MT) * 8 + lane % 4 * 2 + i % 2 >= end)
			score[i / (4 * MT)][i / 4 % MT][i % 4] = -INFINITY;
}

/* blockIdx: window and tile of queries, head, view.  Only PADDED takes more than one window. */
template <int HD, int MT, int C, bool PADDED>
static __global__ void
__launch_bounds__(FLASH_THREADS, flash_blocks(HD, MT, C)) flash_attention(FlashTask task)
{
	const int width = C > 0 ? C : FLASH_KEYS;
	const int groups = FLASH_KEYS / width; /* rows of a tile */
	const int across = C > 0 ? C / 8 : 1;  /* n-tiles of a row */
	const int tile = 2 * FLASH_KEYS * HD;  /* elements of a stage */
	__shared__ int tokens[FLASH_WARPS * 16 * MT];
	const AttentionShape &s = task.shape;
	__nv_bfloat16 *stages = dsocr_shared<__nv_bfloat16>(); /* [2][keys, values][FLASH_KEYS][HD] */
	float *row_terms = (float *) (stages + 2 * tile);
	float *col_terms = row_terms + FLASH_WARPS * 16 * MT * task.row_pitch;
	FlashPlace place;
	FlashCursor cursor;
	FlashSums<HD, MT> sums = {};
	uint32_t q[MT][HD / 16][4];
	float start[across][MT][4] = {};
	int at_key;
	int at_value;
	int row = 0; /* of the tile, in the window */
	int col = 0;

	place.window = attention_window(s, PADDED ? blockIdx.x / s.tiles : 0);
	place.tokens = tokens;
	place.base = blockIdx.z * (s.height * s.side);
	place.head = blockIdx.y;
	place.first = (PADDED ? blockIdx.x % s.tiles : blockIdx.x) * (FLASH_WARPS * 16 * MT);
	place.count = place.window.real_rows * place.window.real_cols;
	place.warp = threadIdx.x / 32;
	place.lane = threadIdx.x % 32;
	if (place.first >= place.count)
	{
		dsocr_grid_wait();
		return;
	}
	at_key = flash_at<HD>(place.lane % 8 + place.lane / 16 * 8, place.lane / 8 % 2);
	at_value = flash_at<HD>(place.lane % 16, place.lane / 16);
#pragma unroll
	for (int i = 0; i < 2 * MT; i++)
		sums.top[i / 2][i % 2] = -INFINITY;
	flash_load_queries<HD, MT>(q, tokens, task, place);
	if (C > 0)
		flash_positions<HD, MT>(row_terms, col_terms, q, stages, at_key, task, place);
	row_terms += (place.warp * MT * 16 + place.lane / 4) * task.row_pitch;
	col_terms += (place.warp * MT * 16 + place.lane / 4) * task.col_pitch;

	cursor = flash_cursor<HD, C>(task, place);
	flash_load<HD, C, PADDED>(stages, cursor, task, place);
	dsocr_cp_async_commit();
	for (int now = 0; col < s.cols; now ^= tile)
	{
		bool last = row + groups >= s.rows && col + width >= s.cols;
		float score[8][MT][4];
		float shift[MT][2][groups] = {};

		dsocr_cp_async_wait<0>();
		__syncthreads();
		if (!last)
			flash_load<HD, C, PADDED>(stages + (now ^ tile), cursor, task, place);
		dsocr_cp_async_commit();
		if (tokens[place.warp * 16 * MT] >= 0) /* warps without a query only load */
		{
			if (C > 0 && row == 0)
				flash_start_strip<MT, across>(start, col_terms, task.col_pitch, col, place.lane);
#pragma unroll
			for (int i = 0; i < 8 * MT * 4; i++)
				score[i / (4 * MT)][i / 4 % MT][i % 4] =
					start[i / (4 * MT) % across][i / 4 % MT][i % 4];
#pragma unroll
			for (int i = 0; i < FLASH_KEYS / 16; i++)
				flash_scores<HD, MT>(score + 2 * i, q, stages + now + i * 16 * HD, at_key);
			if (C == 0 && last)
				flash_cut<MT>(score, s.cols - col, place.lane);
			if (C > 0)
				flash_shift<MT, groups>(shift, row_terms, task.row_pitch, row, place.lane);
			flash_softmax<HD, MT, groups>(score, shift, sums, task.scale);
			flash_values<HD, MT>(sums, score, stages + now + tile / 2, at_value);
		}
		row += groups;
		if (row >= s.rows)
		{
			row = 0;
			col += width;
		}
	}
	flash_store<HD, MT>(sums, task, place);
}

#endif /* DSOCR_FLASH_CUH */
