/*-------------------------------------------------------------------------
 *
 * warp.cc
 *		Warp functions, asynchronous copies and atomics: what they do.
 *
 * Fragments are those of the PTX manual, "Matrix fragments for mma.m16n8k16
 * with floating point type" and "ldmatrix".
 *
 *-------------------------------------------------------------------------
 */
#include "emu_internal.h"

/* ---- shuffles and votes ---- */

static int
source_lane(const DsocrEmuRequest *r, int lane)
{
	int width = r->width;
	int start = lane & ~(width - 1);
	int from;

	switch (r->op)
	{
		case DSOCR_EMU_SHFL:
			return start | (r->arg & (width - 1));
		case DSOCR_EMU_SHFL_UP:
			from = lane - r->arg;
			return from < start ? lane : from;
		case DSOCR_EMU_SHFL_DOWN:
			from = lane + r->arg;
			return from >= start + width ? lane : from;
		default:
			from = lane ^ r->arg;
			return from >= start + width ? lane : from;
	}
}

static void
shuffle(DsocrEmuRequest *const *lanes)
{
	uint64_t out[32];

	for (int i = 0; i < 32; i++)
	{
		const DsocrEmuRequest *r = lanes[i];

		if (r->width < 1 || r->width > 32 || (r->width & (r->width - 1)) != 0)
			dsocr_emu_die(r->file, r->line, "shuffle of width %d", r->width);
		if (r->op == DSOCR_EMU_SHFL_XOR && (r->arg < 0 || r->arg > 31))
			dsocr_emu_die(r->file, r->line, "shuffle with lane mask %d", r->arg);
		out[i] = lanes[source_lane(r, i)]->value;
	}
	for (int i = 0; i < 32; i++)
		lanes[i]->value = out[i];
}

static uint64_t
reduce(DsocrEmuRequest *const *lanes)
{
	DsocrEmuOp op = lanes[0]->op;
	uint32_t sum = (uint32_t) lanes[0]->value;

	for (int i = 1; i < 32; i++)
	{
		uint32_t v = (uint32_t) lanes[i]->value;

		if (op == DSOCR_EMU_SUM || op == DSOCR_EMU_SUM_SIGNED)
			sum += v;
		else if (op == DSOCR_EMU_MAX)
			sum = std::max(sum, v);
		else if (op == DSOCR_EMU_MIN)
			sum = std::min(sum, v);
		else if (op == DSOCR_EMU_MAX_SIGNED)
			sum = (uint32_t) std::max((int32_t) sum, (int32_t) v);
		else
			sum = (uint32_t) std::min((int32_t) sum, (int32_t) v);
	}
	return sum;
}

static void
vote(DsocrEmuRequest *const *lanes)
{
	DsocrEmuOp op = lanes[0]->op;
	uint32_t set = 0;
	uint64_t out[32];

	for (int i = 0; i < 32; i++)
		set |= (uint32_t) (lanes[i]->value != 0) << i;
	for (int i = 0; i < 32; i++)
	{
		if (op == DSOCR_EMU_BALLOT)
			out[i] = set;
		else if (op == DSOCR_EMU_ANY)
			out[i] = set != 0;
		else if (op == DSOCR_EMU_ALL)
			out[i] = set == 0xffffffffu;
		else
		{
			out[i] = 0;
			for (int j = 0; j < 32; j++)
				out[i] |= (uint64_t) (lanes[j]->value == lanes[i]->value) << j;
		}
	}
	for (int i = 0; i < 32; i++)
		lanes[i]->value = out[i];
}

/* ---- matrix instructions ---- */

static float
half_of(uint32_t pair, int high)
{
	return __uint_as_float(high ? pair & 0xffff0000u : pair << 16);
}

/* D[16,8] += A[16,16] @ B[16,8]; the sum over k in ascending order in fp32 */
static void
mma(DsocrEmuRequest *const *lanes)
{
	float a[16][16];
	float b[16][8];
	float d[16][8];

	for (int lane = 0; lane < 32; lane++)
	{
		const DsocrEmuRequest *r = lanes[lane];
		int group = lane / 4;
		int pair = lane % 4 * 2;

		for (int i = 0; i < 8; i++)
			a[group + (i / 2 % 2) * 8][pair + i % 2 + (i / 4) * 8] = half_of(r->a[i / 2], i % 2);
		for (int i = 0; i < 4; i++)
			b[pair + i % 2 + (i / 2) * 8][group] = half_of(r->b[i / 2], i % 2);
		for (int i = 0; i < 4; i++)
			d[group + (i / 2) * 8][pair + i % 2] = r->d[i];
	}
	for (int i = 0; i < 16; i++)
		for (int k = 0; k < 16; k++)
			for (int j = 0; j < 8; j++)
				d[i][j] += a[i][k] * b[k][j];
	for (int lane = 0; lane < 32; lane++)
		for (int i = 0; i < 4; i++)
			lanes[lane]->d[i] = d[lane / 4 + (i / 2) * 8][lane % 4 * 2 + i % 2];
}

static void
ldmatrix(DsocrEmuRequest *const *lanes)
{
	int first = dsocr_emu_block.current->index / 32 * 32;
	int n = lanes[0]->n;
	uint16_t m[4][8][8];

	for (int i = 0; i < n * 8; i++)
	{
		const DsocrEmuRequest *r = lanes[i];

		if (!dsocr_emu_is_shared(r->row, 16))
			dsocr_emu_die(r->file, r->line, "ldmatrix: lane %d gives %p, not in shared memory", i,
						  r->row);
		if ((uintptr_t) r->row % 16 != 0)
			dsocr_emu_die(r->file, r->line, "ldmatrix: lane %d gives %p, not aligned to 16 bytes",
						  i, r->row);
		/* by a call that the address sanitizer sees */
		memcpy(m[i / 8][i % 8], r->row, 16);
	}
	for (int lane = 0; lane < 32; lane++)
		for (int j = 0; j < n; j++)
		{
			const DsocrEmuRequest *r = lanes[lane];
			uint16_t lo, hi;

			for (int half = 0; half < 2; half++)
			{
				int row = r->trans ? lane % 4 * 2 + half : lane / 4;
				int col = r->trans ? lane / 4 : lane % 4 * 2 + half;

				dsocr_emu_race_read(static_cast<const uint16_t *>(lanes[j * 8 + row]->row) + col, 2,
									first + lane, r->file, r->line);
			}
			lo = r->trans ? m[j][lane % 4 * 2][lane / 4] : m[j][lane / 4][lane % 4 * 2];
			hi = r->trans ? m[j][lane % 4 * 2 + 1][lane / 4] : m[j][lane / 4][lane % 4 * 2 + 1];
			r->r[j] = lo | (uint32_t) hi << 16;
		}
}

void
dsocr_emu_warp_perform(DsocrEmuRequest *const *lanes)
{
	uint64_t sum;

	switch (lanes[0]->op)
	{
		case DSOCR_EMU_SYNCWARP:
			break;
		case DSOCR_EMU_SHFL:
		case DSOCR_EMU_SHFL_UP:
		case DSOCR_EMU_SHFL_DOWN:
		case DSOCR_EMU_SHFL_XOR:
			shuffle(lanes);
			break;
		case DSOCR_EMU_BALLOT:
		case DSOCR_EMU_ANY:
		case DSOCR_EMU_ALL:
		case DSOCR_EMU_MATCH:
			vote(lanes);
			break;
		case DSOCR_EMU_SUM:
		case DSOCR_EMU_SUM_SIGNED:
		case DSOCR_EMU_MAX:
		case DSOCR_EMU_MAX_SIGNED:
		case DSOCR_EMU_MIN:
		case DSOCR_EMU_MIN_SIGNED:
			sum = reduce(lanes);
			for (int i = 0; i < 32; i++)
				lanes[i]->value = sum;
			break;
		case DSOCR_EMU_MMA:
			mma(lanes);
			break;
		case DSOCR_EMU_LDMATRIX:
			ldmatrix(lanes);
			break;
	}
}

/* ---- asynchronous copies ---- */

/*
 * The bytes arrive when the thread waits for their group.  Until then nobody
 * may look: they are poison.
 */
void
dsocr_emu_cp_async(void *shared, const void *global, bool valid, const char *file, int line)
{
	DsocrEmuFiber *self = dsocr_emu_block.current;
	DsocrEmuCopy copy;

	if (!dsocr_emu_is_shared(shared, 16))
		dsocr_emu_die(file, line, "cp.async to %p, not in shared memory", shared);
	if ((uintptr_t) shared % 16 != 0)
		dsocr_emu_die(file, line, "cp.async to %p, not aligned to 16 bytes", shared);
	if ((uintptr_t) global % 16 != 0)
		dsocr_emu_die(file, line, "cp.async from %p, not aligned to 16 bytes", global);
	if (valid)
		dsocr_emu_check_device(global, 16, "cp.async", file, line);
	copy.shared = static_cast<unsigned char *>(shared);
	copy.global = valid ? global : NULL;
	copy.group = self->groups;
	copy.file = file;
	copy.line = line;
	memset(shared, DSOCR_EMU_POISON, 16);
	dsocr_emu_race_copy_start(&copy);
	self->copies.push_back(copy);
}

void
dsocr_emu_cp_async_commit(void)
{
	dsocr_emu_block.current->groups++;
}

void
dsocr_emu_cp_async_wait(int n)
{
	DsocrEmuFiber *self = dsocr_emu_block.current;
	size_t kept = 0;

	for (const DsocrEmuCopy &copy : self->copies)
	{
		if (copy.group >= self->groups - n)
		{
			self->copies[kept++] = copy;
			continue;
		}
		if (copy.global != NULL)
			memcpy(copy.shared, copy.global, 16);
		else
			memset(copy.shared, 0, 16);
		dsocr_emu_race_copy_end(&copy);
	}
	self->copies.resize(kept);
}

void
dsocr_emu_check_load(const void *global, const char *file, int line)
{
	if ((uintptr_t) global % 16 != 0)
		dsocr_emu_die(file, line, "load of 16 bytes from %p, not aligned", global);
	dsocr_emu_check_device(global, 16, "dsocr_load_stream", file, line);
}

/* ---- atomics ---- */

template <typename T>
static T
exchange(T *p, T v)
{
	T old;

	if ((uintptr_t) p % sizeof(T) != 0)
		dsocr_emu_die(__FILE__, __LINE__, "atomic on %p, not aligned", (void *) p);
	dsocr_emu_race_atomic(p, sizeof(T));
	old = *p;
	*p = v;
	return old;
}

#define DSOCR_EMU_ATOMICS_CC(type)                                                                 \
	type atomicAdd(type *p, type v)                                                                \
	{                                                                                              \
		return exchange(p, (type) (*p + v));                                                       \
	}                                                                                              \
	type atomicMax(type *p, type v)                                                                \
	{                                                                                              \
		return exchange(p, *p > v ? *p : v);                                                       \
	}                                                                                              \
	type atomicMin(type *p, type v)                                                                \
	{                                                                                              \
		return exchange(p, *p < v ? *p : v);                                                       \
	}                                                                                              \
	type atomicExch(type *p, type v)                                                               \
	{                                                                                              \
		return exchange(p, v);                                                                     \
	}                                                                                              \
	type atomicCAS(type *p, type expected, type v)                                                 \
	{                                                                                              \
		return exchange(p, *p == expected ? v : *p);                                               \
	}

#pragma GCC diagnostic ignored "-Wfloat-equal"
DSOCR_EMU_ATOMICS_CC(int)
DSOCR_EMU_ATOMICS_CC(unsigned int)
DSOCR_EMU_ATOMICS_CC(unsigned long long)
DSOCR_EMU_ATOMICS_CC(float)

int
atomicSub(int *p, int v)
{
	return exchange(p, *p - v);
}

unsigned int
atomicSub(unsigned int *p, unsigned int v)
{
	return exchange(p, *p - v);
}

int
atomicOr(int *p, int v)
{
	return exchange(p, *p | v);
}

unsigned int
atomicOr(unsigned int *p, unsigned int v)
{
	return exchange(p, *p | v);
}

int
atomicAnd(int *p, int v)
{
	return exchange(p, *p & v);
}

unsigned int
atomicAnd(unsigned int *p, unsigned int v)
{
	return exchange(p, *p & v);
}

unsigned int
atomicInc(unsigned int *p, unsigned int limit)
{
	return exchange(p, *p >= limit ? 0 : *p + 1);
}
