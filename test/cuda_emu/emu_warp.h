/*-------------------------------------------------------------------------
 *
 * emu_warp.h
 *		What the threads of a block do together, and atomics.
 *
 * Each of these calls stops its fiber until all lanes of the warp (or all
 * threads of the barrier) have come; the last one does the work for all.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_EMU_WARP_H
#define DSOCR_EMU_WARP_H

typedef enum DsocrEmuOp
{
	DSOCR_EMU_SYNCWARP,
	DSOCR_EMU_SHFL,
	DSOCR_EMU_SHFL_UP,
	DSOCR_EMU_SHFL_DOWN,
	DSOCR_EMU_SHFL_XOR,
	DSOCR_EMU_BALLOT,
	DSOCR_EMU_ANY,
	DSOCR_EMU_ALL,
	DSOCR_EMU_MATCH,
	DSOCR_EMU_SUM,
	DSOCR_EMU_SUM_SIGNED,
	DSOCR_EMU_MAX,
	DSOCR_EMU_MAX_SIGNED,
	DSOCR_EMU_MIN,
	DSOCR_EMU_MIN_SIGNED,
	DSOCR_EMU_MMA,
	DSOCR_EMU_LDMATRIX
} DsocrEmuOp;

/* What one lane brings to a warp function; lives on its stack. */
typedef struct DsocrEmuRequest
{
	DsocrEmuOp op;
	const char *file;
	int line;
	unsigned int mask;
	uint64_t value; /* in and out: shuffles, votes, sums */
	int arg;		/* lane, distance or lane mask of a shuffle */
	int width;
	float *d; /* mma */
	const uint32_t *a;
	const uint32_t *b;
	uint32_t *r; /* ldmatrix: r[n] */
	const void *row;
	int n;
	bool trans;
} DsocrEmuRequest;

extern void dsocr_emu_warp(DsocrEmuRequest *request);
extern void dsocr_emu_barrier(int id, int threads, const char *file, int line);
extern void dsocr_emu_cp_async(void *shared, const void *global, bool valid, const char *file,
							   int line);
extern void dsocr_emu_cp_async_commit(void);
extern void dsocr_emu_cp_async_wait(int n);
extern void dsocr_emu_check_load(const void *global, const char *file, int line);

static inline void
__syncthreads(DSOCR_EMU_SITE)
{
	dsocr_emu_barrier(0, 0, file, line);
}

static inline void
dsocr_bar_sync(int id, int threads, DSOCR_EMU_SITE)
{
	dsocr_emu_barrier(id, threads, file, line);
}

static inline uint64_t
dsocr_emu_warp_value(DsocrEmuOp op, unsigned int mask, uint64_t value, int arg, int width,
					 const char *file, int line)
{
	DsocrEmuRequest request = {};

	request.op = op;
	request.file = file;
	request.line = line;
	request.mask = mask;
	request.value = value;
	request.arg = arg;
	request.width = width;
	dsocr_emu_warp(&request);
	return request.value;
}

static inline void
__syncwarp(unsigned int mask = 0xffffffffu, DSOCR_EMU_SITE)
{
	dsocr_emu_warp_value(DSOCR_EMU_SYNCWARP, mask, 0, 0, 32, file, line);
}

template <typename T>
static inline T
dsocr_emu_shuffle(DsocrEmuOp op, unsigned int mask, T v, int arg, int width, const char *file,
				  int line)
{
	uint64_t bits = 0;
	T out;

	static_assert(sizeof(T) <= 8, "shuffles take at most 8 bytes");
	memcpy(&bits, &v, sizeof(T));
	bits = dsocr_emu_warp_value(op, mask, bits, arg, width, file, line);
	memcpy(&out, &bits, sizeof(T));
	return out;
}

template <typename T>
static inline T
__shfl_sync(unsigned int mask, T v, int lane, int width = 32, DSOCR_EMU_SITE)
{
	return dsocr_emu_shuffle(DSOCR_EMU_SHFL, mask, v, lane, width, file, line);
}

template <typename T>
static inline T
__shfl_up_sync(unsigned int mask, T v, unsigned int delta, int width = 32, DSOCR_EMU_SITE)
{
	return dsocr_emu_shuffle(DSOCR_EMU_SHFL_UP, mask, v, (int) delta, width, file, line);
}

template <typename T>
static inline T
__shfl_down_sync(unsigned int mask, T v, unsigned int delta, int width = 32, DSOCR_EMU_SITE)
{
	return dsocr_emu_shuffle(DSOCR_EMU_SHFL_DOWN, mask, v, (int) delta, width, file, line);
}

template <typename T>
static inline T
__shfl_xor_sync(unsigned int mask, T v, int lane_mask, int width = 32, DSOCR_EMU_SITE)
{
	return dsocr_emu_shuffle(DSOCR_EMU_SHFL_XOR, mask, v, lane_mask, width, file, line);
}

#define DSOCR_EMU_VOTE(name, op, type)                                                             \
	static inline type name(unsigned int mask, int predicate, DSOCR_EMU_SITE)                      \
	{                                                                                              \
		return (type) dsocr_emu_warp_value(op, mask, predicate != 0, 0, 32, file, line);           \
	}

DSOCR_EMU_VOTE(__ballot_sync, DSOCR_EMU_BALLOT, unsigned int)
DSOCR_EMU_VOTE(__any_sync, DSOCR_EMU_ANY, int)
DSOCR_EMU_VOTE(__all_sync, DSOCR_EMU_ALL, int)

#define DSOCR_EMU_REDUCE(name, op, type)                                                           \
	static inline type name(unsigned int mask, type v, DSOCR_EMU_SITE)                             \
	{                                                                                              \
		return (type) dsocr_emu_warp_value(op, mask, (unsigned int) v, 0, 32, file, line);         \
	}

DSOCR_EMU_REDUCE(__reduce_add_sync, DSOCR_EMU_SUM, unsigned int)
DSOCR_EMU_REDUCE(__reduce_add_sync, DSOCR_EMU_SUM_SIGNED, int)
DSOCR_EMU_REDUCE(__reduce_max_sync, DSOCR_EMU_MAX, unsigned int)
DSOCR_EMU_REDUCE(__reduce_max_sync, DSOCR_EMU_MAX_SIGNED, int)
DSOCR_EMU_REDUCE(__reduce_min_sync, DSOCR_EMU_MIN, unsigned int)
DSOCR_EMU_REDUCE(__reduce_min_sync, DSOCR_EMU_MIN_SIGNED, int)

template <typename T>
static inline unsigned int
__match_any_sync(unsigned int mask, T v, DSOCR_EMU_SITE)
{
	uint64_t bits = 0;

	memcpy(&bits, &v, sizeof(T));
	return (unsigned int) dsocr_emu_warp_value(DSOCR_EMU_MATCH, mask, bits, 0, 32, file, line);
}

/* ---- matrix instructions ---- */

static inline void
dsocr_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], DSOCR_EMU_SITE)
{
	DsocrEmuRequest request = {};

	request.op = DSOCR_EMU_MMA;
	request.file = file;
	request.line = line;
	request.mask = 0xffffffffu;
	request.d = d;
	request.a = a;
	request.b = b;
	dsocr_emu_warp(&request);
}

static inline void
dsocr_emu_ldmatrix(uint32_t *r, const void *row, int n, bool trans, const char *file, int line)
{
	DsocrEmuRequest request = {};

	request.op = DSOCR_EMU_LDMATRIX;
	request.file = file;
	request.line = line;
	request.mask = 0xffffffffu;
	request.r = r;
	request.row = row;
	request.n = n;
	request.trans = trans;
	dsocr_emu_warp(&request);
}

static inline void
dsocr_ldmatrix_x4(uint32_t r[4], const void *row, DSOCR_EMU_SITE)
{
	dsocr_emu_ldmatrix(r, row, 4, false, file, line);
}

static inline void
dsocr_ldmatrix_x2(uint32_t r[2], const void *row, DSOCR_EMU_SITE)
{
	dsocr_emu_ldmatrix(r, row, 2, false, file, line);
}

static inline void
dsocr_ldmatrix_x4_trans(uint32_t r[4], const void *row, DSOCR_EMU_SITE)
{
	dsocr_emu_ldmatrix(r, row, 4, true, file, line);
}

static inline void
dsocr_ldmatrix_x2_trans(uint32_t r[2], const void *row, DSOCR_EMU_SITE)
{
	dsocr_emu_ldmatrix(r, row, 2, true, file, line);
}

/* ---- asynchronous copies, wide loads ---- */

static inline void
dsocr_cp_async16(void *shared, const void *global, bool valid, DSOCR_EMU_SITE)
{
	dsocr_emu_cp_async(shared, global, valid, file, line);
}

static inline void
dsocr_cp_async_commit()
{
	dsocr_emu_cp_async_commit();
}

template <int N>
static inline void
dsocr_cp_async_wait()
{
	dsocr_emu_cp_async_wait(N);
}

static inline uint4
dsocr_load_stream(const void *global, DSOCR_EMU_SITE)
{
	dsocr_emu_check_load(global, file, line);
	return *static_cast<const uint4 *>(global);
}

template <typename T>
static __forceinline__ T
__ldg(const T *p)
{
	return *p;
}

template <typename T>
static __forceinline__ T
__ldcg(const T *p)
{
	return *p;
}

template <typename T>
static __forceinline__ T
__ldcs(const T *p)
{
	return *p;
}

template <typename T>
static __forceinline__ void
__stcg(T *p, T v)
{
	*p = v;
}

template <typename T>
static __forceinline__ void
__stcs(T *p, T v)
{
	*p = v;
}

/* Orders blocks for the race detector: what was written before one's fence, behind another's. */
extern void dsocr_emu_race_fence(void);

static inline void
__threadfence()
{
	dsocr_emu_race_fence();
}

static inline void
__threadfence_block()
{
}

/* ---- atomics: never interrupted, because fibers give way by themselves ---- */

#define DSOCR_EMU_ATOMICS(type)                                                                    \
	extern type atomicAdd(type *p, type v);                                                        \
	extern type atomicMax(type *p, type v);                                                        \
	extern type atomicMin(type *p, type v);                                                        \
	extern type atomicExch(type *p, type v);                                                       \
	extern type atomicCAS(type *p, type expected, type v);

DSOCR_EMU_ATOMICS(int)
DSOCR_EMU_ATOMICS(unsigned int)
DSOCR_EMU_ATOMICS(unsigned long long)
DSOCR_EMU_ATOMICS(float)
extern int atomicSub(int *p, int v);
extern unsigned int atomicSub(unsigned int *p, unsigned int v);
extern int atomicOr(int *p, int v);
extern unsigned int atomicOr(unsigned int *p, unsigned int v);
extern int atomicAnd(int *p, int v);
extern unsigned int atomicAnd(unsigned int *p, unsigned int v);
extern unsigned int atomicInc(unsigned int *p, unsigned int limit);

#endif /* DSOCR_EMU_WARP_H */
