/*-------------------------------------------------------------------------
 *
 * emu_internal.h
 *		What the files of the emulator give each other.
 *
 * Everything runs on one host thread at a time: the lock of runtime.cc is
 * held while a stream is drained.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_EMU_INTERNAL_H
#define DSOCR_EMU_INTERNAL_H

#include "emu.h"

#include <vector>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DSOCR_EMU_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define DSOCR_EMU_ASAN 1
#endif

#ifdef DSOCR_EMU_ASAN
#include <sanitizer/asan_interface.h>
#define DSOCR_EMU_HIDE(p, n) __asan_poison_memory_region(p, n)
#define DSOCR_EMU_SHOW(p, n) __asan_unpoison_memory_region(p, n)
#else
#define DSOCR_EMU_HIDE(p, n) ((void) (p), (void) (n))
#define DSOCR_EMU_SHOW(p, n) ((void) (p), (void) (n))
#endif

#define DSOCR_EMU_MAX_THREADS 1024
#define DSOCR_EMU_MAX_WARPS 32
#define DSOCR_EMU_BARRIERS 16
#define DSOCR_EMU_POISON 0xff /* bytes of a NaN in float and in bf16 */

/* A copy under way into shared memory. */
typedef struct DsocrEmuCopy
{
	unsigned char *shared;
	const void *global; /* NULL: zeros */
	int group;			/* number of its group in the thread */
	const char *file;
	int line;
} DsocrEmuCopy;

typedef enum DsocrEmuState
{
	DSOCR_EMU_READY,
	DSOCR_EMU_IN_WARP,	  /* waits for the lanes of its warp */
	DSOCR_EMU_IN_BARRIER, /* waits for a barrier */
	DSOCR_EMU_DONE
} DsocrEmuState;

typedef struct DsocrEmuFiber
{
	void *sp;
	unsigned char *stack;
	size_t stack_bytes;
	void *fake_stack; /* of the address sanitizer */
	int index;		  /* in the block */
	uint3 thread;
	DsocrEmuState state;
	DsocrEmuRequest *request; /* when in a warp function */
	int barrier;			  /* when in a barrier */
	int barrier_threads;
	const char *file; /* of the barrier */
	int line;
	int groups;	 /* committed so far */
	bool waited; /* for the launches in front */
	std::vector<DsocrEmuCopy> copies;
} DsocrEmuFiber;

/* The block that runs. */
typedef struct DsocrEmuBlock
{
	const DsocrEmuLaunch *launch; /* NULL: no kernel runs */
	uint64_t launch_number;
	uint64_t block_number; /* in the launch */
	uint64_t ended;		   /* the last launch that has ended for sure when this one begins */
	bool waits;			   /* some thread has waited for the launches in front */
	bool lets_go;		   /* some thread let the next launch begin before it had waited */
	bool behind_copy;	   /* a copy or memset lies in front of the next launch */
	int threads;
	int warps;
	int done;
	DsocrEmuFiber *current;
	int arrived[DSOCR_EMU_MAX_WARPS];		  /* lanes in the present warp function */
	int waiting[DSOCR_EMU_BARRIERS];		  /* threads in a barrier */
	DsocrEmuFiber *first[DSOCR_EMU_BARRIERS]; /* of those who wait */
} DsocrEmuBlock;

extern DsocrEmuBlock dsocr_emu_block;
extern DsocrEmuFiber dsocr_emu_fibers[DSOCR_EMU_MAX_THREADS];

/* Say what is wrong, where, and end the process. */
extern void dsocr_emu_die(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4), noreturn));

/* A setting of the environment; number when it is not set. */
extern int64_t dsocr_emu_setting(const char *name, int64_t number);

/* block.cc */
extern void dsocr_emu_check_aligned(const void *p, size_t alignment);
extern void dsocr_emu_run_launch(const DsocrEmuLaunch &launch);

/* True when [p, p + bytes) lies in the shared memory of the block. */
extern bool dsocr_emu_is_shared(const void *p, size_t bytes);
extern bool dsocr_emu_is_stack(const void *p);

typedef struct DsocrEmuRange
{
	void *p;
	size_t bytes;
} DsocrEmuRange;

/* All that shared memory may be, used by the block or not. */
extern void dsocr_emu_shared_ranges(DsocrEmuRange *dynamic, DsocrEmuRange *fixed);

/* warp.cc */
extern void dsocr_emu_warp_perform(DsocrEmuRequest *const *lanes);

/* memory.cc: device and pinned memory */
typedef enum DsocrEmuPlace
{
	DSOCR_EMU_HOST,
	DSOCR_EMU_PINNED,
	DSOCR_EMU_DEVICE
} DsocrEmuPlace;

extern DsocrEmuPlace dsocr_emu_place(const void *p);

/* Dies unless all bytes belong to one allocation of the device (or are pinned). */
extern void dsocr_emu_check_device(const void *p, size_t bytes, const char *what, const char *file,
								   int line);
extern bool dsocr_emu_is_allocated(const void *p, size_t bytes);
extern void dsocr_emu_memory_open(void);
extern void dsocr_emu_memory_visible(bool visible); /* to host code */
extern unsigned char *dsocr_emu_arena(size_t *bytes);

/* race.cc; all of them do nothing in builds without the race detector */
extern void dsocr_emu_race_launch(void);
extern void dsocr_emu_race_block(void);
extern void dsocr_emu_race_warp(int warp);			   /* all lanes met */
extern void dsocr_emu_race_barrier(uint32_t warp_set); /* all threads of these warps met */
extern void dsocr_emu_race_read(const void *p, size_t bytes, int thread, const char *file,
								int line);
extern void dsocr_emu_race_atomic(void *p, size_t bytes);
extern void dsocr_emu_race_copy_start(const DsocrEmuCopy *copy);
extern void dsocr_emu_race_copy_end(const DsocrEmuCopy *copy);
extern void dsocr_emu_race_host_write(const void *p, size_t bytes); /* by a copy or memset */
extern void dsocr_emu_race_fresh(const void *p, size_t bytes);		/* allocated, not written */

/* fence.cc: what fences and atomics order between blocks, for race.cc */
extern void dsocr_emu_fence_launch(void);
extern void dsocr_emu_fence_block(void);
extern void dsocr_emu_fence(int thread, uint32_t step, const uint32_t *known);
extern void dsocr_emu_fence_atomic(const void *p, int thread, const uint32_t *known);
extern void dsocr_emu_fence_barrier(uint32_t warp_set);

/* Is the step of a thread of an earlier block known to a thread of this one? */
extern bool dsocr_emu_fence_orders(uint32_t block, int thread, uint32_t step, int reader);

#endif /* DSOCR_EMU_INTERNAL_H */
