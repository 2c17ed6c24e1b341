/*-------------------------------------------------------------------------
 *
 * attention.cpp
 *		softmax(q k' scale) v and its gradients, a block of rows at a time, so
 *		that scores never leave the cache (FlashAttention, arXiv 2205.14135).
 *
 * q and k [B, H, T, d], v [B, H, T, e] in bf16 with any strides but the last,
 * scores and sums in fp32.  T, d and e are padded with zeros to multiples of
 * 32 in our own copies.
 *
 * Over a grid of T = rows x columns, SAM's relative positions may be added to
 * the scores: what query i gives to keys of row y, [B, H, T, rows], and of
 * column x, [B, H, T, columns].
 *
 *-------------------------------------------------------------------------
 */
#include <torch/extension.h>

#include <cmath>
#include <vector>

#include "heads.h"

using Maybe = c10::optional<at::Tensor>;

namespace
{

const int ROWS = 64;	/* of queries, or of keys in the gradients, at a time */
const int COLUMNS = 384; /* of queries in the gradients: scores and products of such a block stay in the second cache */

/* Scores of a query times scale, and what it gives to the rows and columns of the grid. */
void
lean(float *s, const bf16 *rows, int height, const bf16 *columns, int width, float scale)
{
	__m512 by = _mm512_set1_ps(scale);

	for (int x = 0; x < width; x += 16)
	{
		__mmask16 m = width - x >= 16 ? 0xffff : (1u << (width - x)) - 1;
		__m512 column = load16_masked(columns + x, m);

		for (int y = 0; y < height; y++)
		{
			uint32_t word = (uint32_t) rows[y] << 16;
			float row, *at = s + (long) y * width + x;

			memcpy(&row, &word, sizeof(row));
			_mm512_mask_storeu_ps(at, m, _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, at), by, _mm512_add_ps(column, _mm512_set1_ps(row))));
		}
	}
}

/* A row of scores to e^(s - max), of which [valid, width) is 0; returns the sum, and the maximum in *top. */
float
soften(const float *s, bf16 *p, int valid, int width, float scale, float *top)
{
	__m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps(), by = _mm512_set1_ps(scale);
	__mmask16 last = valid % 16 ? (1u << valid % 16) - 1 : 0xffff;
	int end = (valid + 15) / 16 * 16;

	for (int j = 0; j < end; j += 16)
		most = _mm512_mask_max_ps(most, j + 16 == end ? last : 0xffff, most, _mm512_loadu_ps(s + j));
	*top = _mm512_reduce_max_ps(most) * scale;
	most = _mm512_set1_ps(*top);
	for (int j = 0; j < end; j += 16)
	{
		__m512 e = exp16(_mm512_fmsub_ps(_mm512_loadu_ps(s + j), by, most));

		e = _mm512_maskz_mov_ps(j + 16 == end ? last : 0xffff, e);
		sum = _mm512_add_ps(sum, e);
		_mm256_storeu_si256((__m256i *) (p + j), narrow(e));
	}
	if (width > end)
		memset(p + end, 0, (width - end) * 2);
	return _mm512_reduce_add_ps(sum);
}

void
forward_head(const Head &q, const Head &k, const Head &v, const Head &o, const Head *rows_of, const Head *columns_of, float *lse,
			 bool causal, float scale)
{
	static thread_local Scratch<bf16> space;
	static thread_local Scratch<float> numbers;
	int T = padded(q.n), D = padded(q.d), E = padded(v.d);
	bf16 *rows = space.get((size_t) T * (2 * D + 2 * E) + (size_t) ROWS * T + (size_t) T * D);
	bf16 *keys = rows + (size_t) T * D, *values = keys + (size_t) T * D, *plain = values + (size_t) T * E;
	bf16 *p = plain + (size_t) T * std::max(D, E);
	float *s = numbers.get((size_t) ROWS * (T + E)), *sums = s + (size_t) ROWS * T;

	copy_rows(k, plain, T, D);
	pair_columns(plain, keys, T, D);
	copy_rows(v, plain, T, E);
	pair_rows(plain, values, T, E);
	copy_rows(q, rows, T, D);
	for (int i0 = 0; i0 < T; i0 += ROWS)
	{
		int n = std::min(ROWS, T - i0), width = causal ? padded(std::min(q.n, i0 + n)) : T;
		float inverse[ROWS];

		gemm(n, width, D, rows + (size_t) i0 * D, D, keys, T, s, T, 0);
		for (int i = 0; i < n; i++)
		{
			float top, sum;
			int valid = causal ? std::min(i0 + i + 1, q.n) : q.n;

			if (rows_of && i0 + i < q.n)
				lean(s + (size_t) i * T, rows_of->p + (i0 + i) * rows_of->step, rows_of->d, columns_of->p + (i0 + i) * columns_of->step,
					 columns_of->d, scale);
			sum = soften(s + (size_t) i * T, p + (size_t) i * T, valid, width, rows_of ? 1 : scale, &top);
			inverse[i] = 1 / sum;
			if (i0 + i < q.n)
				lse[i0 + i] = top + logf(sum);
		}
		gemm(n, E, width, p, T, values, E, sums, E, 0);
		put_rows(sums, E, o, i0, n, inverse);
	}
}

/* What queries give to rows and columns of the grid, and the gradients of that: [rows][T], [columns][T]. */
struct Grid
{
	int height, width;
	float *rows, *columns, *d_rows, *d_columns;
};

Grid
turn_grid(const Head &rows, const Head &columns, int T)
{
	static thread_local Scratch<float> numbers;
	size_t nr = (size_t) rows.d * T, nc = (size_t) columns.d * T;
	float *f = numbers.get(2 * (nr + nc));
	Grid g = {rows.d, columns.d, f, f + nr, f + nr + nc, f + 2 * nr + nc};

	memset(f, 0, 2 * (nr + nc) * sizeof(float));
	for (const Head *h : {&rows, &columns})
		for (int i = 0; i < h->n; i++)
			for (int y = 0; y < h->d; y++)
			{
				uint32_t word = (uint32_t) h->p[i * h->step + y] << 16;

				memcpy((h == &rows ? g.rows : g.columns) + (size_t) y * T + i, &word, sizeof(word));
			}
	return g;
}

/* [d][T] in fp32 to the rows of x */
void
turn_back(const float *in, const Head &x, int T)
{
	for (int i = 0; i < x.n; i++)
		for (int y = 0; y < x.d; y += 16)
		{
			__mmask16 m = x.d - y >= 16 ? 0xffff : (1u << (x.d - y)) - 1;
			__m512i lanes = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32(T));

			_mm256_mask_storeu_epi16(x.p + i * x.step + y, m,
									 narrow(_mm512_mask_i32gather_ps(_mm512_setzero_ps(), m, lanes, in + (size_t) y * T + i, 4)));
		}
}

/*
 * Rows j and j + 1 of the transposed scores s and products x = v_j . do_i, of
 * queries from on, to p and ds = p (x - delta) scale; ds in pairs, too. With a
 * grid for keys below n.
 */
template <bool GRID>
void
differ(const float *s, const float *x, const float *lse, const float *delta, bf16 *p, bf16 *ds, bf16 *pairs, int j, int from,
	   int width, float scale, bool causal, const Grid *g, int T, int n)
{
	__m512 by = _mm512_set1_ps(scale);
	long row[2], column[2];

	for (int r = 0; GRID && r < 2; r++)
	{
		row[r] = (long) (j + r) / g->width * T + from;
		column[r] = (long) (j + r) % g->width * T + from;
	}

	for (int i = 0; i < width; i += 16)
	{
		__m256i half[2];

		for (int r = 0; r < 2; r++)
		{
			int at = r * COLUMNS + i, early = causal ? j + r - from - i : 0;
			__m512 z = _mm512_fmsub_ps(_mm512_loadu_ps(s + at), by, _mm512_loadu_ps(lse + i)), e, d;
			bool placed = GRID && j + r < n;

			if (placed)
				z = _mm512_add_ps(z, _mm512_add_ps(_mm512_loadu_ps(g->rows + row[r] + i), _mm512_loadu_ps(g->columns + column[r] + i)));
			e = exp16(z);
			if (early > 0)
				e = _mm512_maskz_mov_ps(early >= 16 ? 0 : 0xffff << early, e);
			d = _mm512_mul_ps(e, _mm512_sub_ps(_mm512_loadu_ps(x + at), _mm512_loadu_ps(delta + i)));
			if (placed)
			{
				float *to_row = g->d_rows + row[r] + i, *to_column = g->d_columns + column[r] + i;

				_mm512_storeu_ps(to_row, _mm512_add_ps(_mm512_loadu_ps(to_row), d));
				_mm512_storeu_ps(to_column, _mm512_add_ps(_mm512_loadu_ps(to_column), d));
			}
			half[r] = narrow(_mm512_mul_ps(d, by));
			_mm256_storeu_si256((__m256i *) (p + at), narrow(e));
			_mm256_storeu_si256((__m256i *) (ds + at), half[r]);
		}
		_mm512_storeu_si512(pairs + 2 * i, _mm512_or_si512(_mm512_cvtepu16_epi32(half[0]),
														   _mm512_slli_epi32(_mm512_cvtepu16_epi32(half[1]), 16)));
	}
}

/* What the gradients of a head need of its inputs, padded, each as a product wants it. */
struct Packed
{
	bf16 *q, *k, *v, *g;	  /* rows */
	bf16 *q_columns, *g_columns; /* [D / 2][T][2] */
	bf16 *q_pairs, *g_pairs;  /* [T / 2][D][2] */
	bf16 *k_turned;			  /* [D][T] */
	bf16 *p, *ds, *ds_pairs;  /* [ROWS][COLUMNS] */
	float *s, *x;			  /* [ROWS][COLUMNS] */
	float *dq;				  /* [D][T], of the transposed gradient */
	float *dk, *dv;			  /* [ROWS][...] */
	float *lse, *delta;
};

Packed
pack(const Head &q, const Head &k, const Head &v, const Head &g, int T, int D, int E)
{
	static thread_local Scratch<bf16> space;
	static thread_local Scratch<float> numbers;
	size_t td = (size_t) T * D, te = (size_t) T * E, rt = (size_t) ROWS * COLUMNS;
	bf16 *b = space.get(6 * td + 4 * te + 3 * rt);
	float *f = numbers.get(2 * rt + td + (size_t) ROWS * (D + E) + 2 * T);
	Packed a;
	bf16 **parts[] = {&a.q, &a.k, &a.q_columns, &a.q_pairs, &a.k_turned, &a.v, &a.g, &a.g_columns, &a.g_pairs, &a.p, &a.ds, &a.ds_pairs};
	size_t sizes[] = {td, td, td, td, td, te, te, te, te, rt, rt, rt};

	for (int i = 0; i < 12; i++)
	{
		*parts[i] = b;
		b += sizes[i];
	}
	a.s = f;
	a.x = f + rt;
	a.dq = a.x + rt;
	a.dk = a.dq + td;
	a.dv = a.dk + (size_t) ROWS * D;
	a.lse = a.dv + (size_t) ROWS * E;
	a.delta = a.lse + T;
	copy_rows(q, a.q, T, D);
	copy_rows(k, a.k, T, D);
	copy_rows(v, a.v, T, E);
	copy_rows(g, a.g, T, E);
	pair_columns(a.k, b, T, D); /* the last td of the space */
	transpose(b, a.k_turned, T, D);
	pair_columns(a.q, a.q_columns, T, D);
	pair_columns(a.g, a.g_columns, T, E);
	pair_rows(a.q, a.q_pairs, T, D);
	pair_rows(a.g, a.g_pairs, T, E);
	memset(a.dq, 0, td * sizeof(float));
	return a;
}

void
backward_head(const Head &q, const Head &k, const Head &v, const Head &o, const Head &g, const float *lse, const Head &dq,
			  const Head &dk, const Head &dv, const Grid *grid, bool causal, float scale)
{
	int T = padded(q.n), D = padded(q.d), E = padded(v.d);
	Packed a = pack(q, k, v, g, T, D, E);

	for (int i = 0; i < T; i++)
	{
		float sum = 0;

		for (int j = 0; i < q.n && j < v.d; j += 16)
		{
			__mmask16 m = v.d - j >= 16 ? 0xffff : (1u << (v.d - j)) - 1;

			sum += _mm512_reduce_add_ps(_mm512_mul_ps(load16_masked(o.p + i * o.step + j, m), load16_masked(g.p + i * g.step + j, m)));
		}
		a.lse[i] = i < q.n ? lse[i] : 1e30f;
		a.delta[i] = sum;
	}
	for (int j0 = 0; j0 < T; j0 += ROWS)
	{
		int n = std::min(ROWS, T - j0), first = causal ? j0 : 0;

		for (int from = first; from < T; from += COLUMNS)
		{
			int width = std::min(COLUMNS, T - from), add = from > first;

			gemm(n, width, D, a.k + (size_t) j0 * D, D, a.q_columns + 2 * from, T, a.s, COLUMNS, 0);
			gemm(n, width, E, a.v + (size_t) j0 * E, E, a.g_columns + 2 * from, T, a.x, COLUMNS, 0);
			for (int j = 0; j < n; j += 2)
			{
				size_t at = (size_t) j * COLUMNS;

				(grid ? differ<true> : differ<false>)(a.s + at, a.x + at, a.lse + from, a.delta + from, a.p + at, a.ds + at,
													  a.ds_pairs + at, j0 + j, from, width, scale, causal, grid, T, q.n);
			}
			gemm(n, E, width, a.p, COLUMNS, a.g_pairs + (size_t) from * E, E, a.dv, E, add);
			gemm(n, D, width, a.ds, COLUMNS, a.q_pairs + (size_t) from * D, D, a.dk, D, add);
			gemm(D, width, n, a.k_turned + j0, T, a.ds_pairs, COLUMNS, a.dq + from, T, 1);
		}
		put_rows(a.dv, E, dv, j0, n, nullptr);
		put_rows(a.dk, D, dk, j0, n, nullptr);
	}
	for (int i = 0; i < q.n; i += 16)
		for (int j = 0; j < D; j += 16)
		{
			float turned[256];

			turn_16((const uint32_t *) a.dq + (size_t) j * T + i, T, (uint32_t *) turned, 16);
			for (int r = 0; r < 16 && i + r < q.n; r++)
				if (j < q.d)
					_mm256_mask_storeu_epi16(dq.p + (i + r) * dq.step + j, q.d - j >= 16 ? 0xffff : (1u << (q.d - j)) - 1,
											 narrow(_mm512_loadu_ps(turned + 16 * r)));
		}
}

/* [B, T, H, d] in memory, seen as [B, H, T, d] */
at::Tensor
like(const at::Tensor &t)
{
	return at::empty({t.size(0), t.size(2), t.size(1), t.size(3)}, t.options()).transpose(1, 2);
}

void
check(const at::Tensor &t, const char *name)
{
	TORCH_CHECK(t.dim() == 4 && t.scalar_type() == at::kBFloat16 && (t.size(3) == 1 || t.stride(3) == 1), name,
				": [B, H, T, d] in bf16 with rows without gaps");
}

} // namespace

/* Output [B, H, T, e] and the logarithms of the sums [B, H, T]; rows and columns: of a grid, or none */
std::vector<at::Tensor>
attention_forward(const at::Tensor &q, const at::Tensor &k, const at::Tensor &v, const Maybe &rows, const Maybe &columns,
				  bool causal, double scale)
{
	check(q, "q");
	check(k, "k");
	check(v, "v");
	TORCH_CHECK(q.sizes() == k.sizes() && q.size(2) == v.size(2), "shapes differ");
	if (rows)
	{
		check(*rows, "rows");
		check(*columns, "columns");
		TORCH_CHECK(!causal && rows->size(2) == q.size(2) && columns->size(2) == q.size(2) &&
						rows->size(3) * columns->size(3) == q.size(2),
					"not a grid");
	}
	at::Tensor o = like(v), lse = at::empty({q.size(0), q.size(1), q.size(2)}, q.options().dtype(at::kFloat));

	tiles_begin();
	for (long i = 0; i < q.size(0) * q.size(1); i++)
	{
		Head y = rows ? head(*rows, i) : Head(), x = rows ? head(*columns, i) : Head();

		forward_head(head(q, i), head(k, i), head(v, i), head(o, i), rows ? &y : nullptr, &x, lse.data_ptr<float>() + i * q.size(2),
					 causal, (float) scale);
	}
	tiles_end();
	return {o, lse};
}

/* Gradients of q, k and v, and of rows and columns where they are given */
std::vector<at::Tensor>
attention_backward(const at::Tensor &g, const at::Tensor &q, const at::Tensor &k, const at::Tensor &v, const Maybe &rows,
				   const Maybe &columns, const at::Tensor &o, const at::Tensor &lse, bool causal, double scale)
{
	check(g, "gradient");
	std::vector<at::Tensor> out = {like(q), like(k), like(v)};

	if (rows)
	{
		out.push_back(like(*rows));
		out.push_back(like(*columns));
	}
	tiles_begin();
	for (long i = 0; i < q.size(0) * q.size(1); i++)
	{
		Grid grid = rows ? turn_grid(head(*rows, i), head(*columns, i), padded(q.size(2))) : Grid();

		backward_head(head(q, i), head(k, i), head(v, i), head(o, i), head(g, i), lse.data_ptr<float>() + i * q.size(2),
					  head(out[0], i), head(out[1], i), head(out[2], i), rows ? &grid : nullptr, causal, (float) scale);
		if (rows)
		{
			turn_back(grid.d_rows, head(out[3], i), padded(q.size(2)));
			turn_back(grid.d_columns, head(out[4], i), padded(q.size(2)));
		}
	}
	tiles_end();
	return out;
}
