/*-------------------------------------------------------------------------
 *
 * race.cc
 *		The race detector: who read and wrote each byte, and whether a barrier
 *		lies between.
 *
 * Kernels are compiled with -fsanitize=thread, whose calls end here instead
 * of in its run time.  Each warp counts its steps: a barrier or __syncwarp
 * ends one.  An access lies before another when the other's warp knows, from
 * the barriers it went through, that the step of the first has ended; known
 * steps travel with barriers, as in vector clocks.  Shuffles, votes and
 * matrix instructions do not order memory and end no step.
 *
 * Between blocks of one launch any write meets every other access, with two
 * exceptions: atomics do not meet atomics, and what a block wrote before a
 * __threadfence may be used by a block that has gone through one since.
 *
 *-------------------------------------------------------------------------
 */
#include "emu_internal.h"

#ifdef DSOCR_EMU_RACE

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define FLAG_ATOMIC 1	   /* the last write was atomic */
#define FLAG_UNDER_WAY 2   /* an asynchronous copy has not been waited for */
#define FLAG_MANY_BLOCKS 4 /* several blocks of the launch have read it */
#define FLAG_INITIALISED 8 /* somebody has written byte 0; twice that: byte 1 */
#define GRAIN 2			   /* bytes of a cell: one of bf16 */
#define WHOLE 3			   /* mask of both bytes */
#define SITE_LINE 0x80000000u

/* What is known of two bytes; masks say which of them an access was about. */
typedef struct Cell
{
	uint32_t w_launch;
	uint32_t w_block;
	uint32_t w_step;
	uint32_t w_site;
	uint32_t r_launch;
	uint32_t r_block;
	uint32_t r_step[2]; /* the last reader, and the last one that was another thread */
	uint32_t r_site[2];
	uint16_t w_thread;
	uint16_t r_thread[2];
	uint8_t w_mask;
	uint8_t r_mask;
	uint8_t flags;
} Cell;

typedef enum Access
{
	READ,
	WRITE,
	ATOMIC,
	COPY /* begins to write */
} Access;

static Cell *device_cells;
static unsigned char *arena;
static size_t arena_bytes;
static DsocrEmuRange shared[2]; /* dynamic, static */
static Cell *shared_cells[2];
static uintptr_t image_low, image_high; /* of the program or library with the kernels */
static uint32_t step[DSOCR_EMU_MAX_WARPS];
static uint32_t known[DSOCR_EMU_MAX_WARPS][DSOCR_EMU_MAX_WARPS]; /* [who knows][about whom] */
static bool check_uninitialised;

/* ---- opening ---- */

static void *
reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				   -1, 0);

	if (p == MAP_FAILED)
		dsocr_emu_die(__FILE__, __LINE__, "no addresses for the race detector");
	return p;
}

static int
find_image(struct dl_phdr_info *info, size_t, void *)
{
	uintptr_t self = (uintptr_t) &image_low;
	uintptr_t low = UINTPTR_MAX;
	uintptr_t high = 0;

	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD)
		{
			uintptr_t at = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;

			low = std::min(low, at);
			high = std::max(high, at + info->dlpi_phdr[i].p_memsz);
		}
	if (self < low || self >= high)
		return 0;
	image_low = low;
	image_high = high;
	return 1;
}

static void
open_once()
{
	if (image_high != 0)
		return;
	dl_iterate_phdr(find_image, NULL);
	check_uninitialised = dsocr_emu_setting("DSOCR_EMU_UNINITIALISED", 1) != 0;
}

static void
open_arena()
{
	if (arena != NULL)
		return;
	arena = dsocr_emu_arena(&arena_bytes);
	if (arena != NULL)
		device_cells = static_cast<Cell *>(reserve(arena_bytes / GRAIN * sizeof(Cell)));
}

static void
open_shared()
{
	if (shared_cells[0] != NULL)
		return;
	dsocr_emu_shared_ranges(&shared[0], &shared[1]);
	for (int i = 0; i < 2; i++)
		if (shared[i].bytes > 0)
			shared_cells[i] =
				static_cast<Cell *>(reserve((shared[i].bytes / GRAIN + 1) * sizeof(Cell)));
}

/* ---- reports ---- */

static void
describe_site(uint32_t site, const char *file, char *out, size_t size)
{
	Dl_info info;
	char command[1200];
	char line[600];
	FILE *tool;

	if (site & SITE_LINE)
	{
		snprintf(out, size, "%s:%u", file != NULL ? file : "line", site & ~SITE_LINE);
		return;
	}
	snprintf(out, size, "+0x%x", site);
	if (dladdr(reinterpret_cast<void *>(&step), &info) == 0)
		return;
	/* one before the return address is still in the statement */
	snprintf(command, sizeof(command), "addr2line -sfiCe '%s' 0x%x 2>/dev/null",
			 access(info.dli_fname, R_OK) == 0 ? info.dli_fname : "/proc/self/exe", site - 1);
	tool = popen(command, "r");
	if (tool == NULL)
		return;
	out[0] = '\0';
	for (int i = 0; i < 8 && fgets(line, sizeof(line), tool) != NULL; i++)
	{
		size_t used = strlen(out);

		line[strcspn(line, "\n")] = '\0';
		if (i % 2 == 1) /* lines alternate between function and place */
			snprintf(out + used, size - used, "%s%s", used > 0 ? " in " : "", line);
	}
	pclose(tool);
}

static const char *
where(const void *p, char *out, size_t size)
{
	for (int i = 0; i < 2; i++)
		if (p >= shared[i].p && p < static_cast<unsigned char *>(shared[i].p) + shared[i].bytes)
		{
			snprintf(out, size, "%s shared memory +%zu", i == 0 ? "dynamic" : "static",
					 (size_t) (static_cast<const unsigned char *>(p) -
							   static_cast<unsigned char *>(shared[i].p)));
			return out;
		}
	snprintf(out, size, "device memory %p", p);
	return out;
}

typedef struct Now
{
	uint32_t launch;
	uint32_t block;
	int thread;
	uint32_t site;
	const char *file;
	Access access;
	bool shared;
	uint8_t mask;
} Now;

static const char *const access_names[] = {"read", "write", "atomic", "cp.async"};

static void __attribute__((noreturn))
report(const Now *now, const void *p, const char *what, bool block, uint32_t other_block,
	   int other_thread, uint32_t other_site)
{
	char place[64], here[400], there[400];

	describe_site(now->site, now->file, here, sizeof(here));
	describe_site(other_site, now->file, there, sizeof(there));
	if (block)
		dsocr_emu_die(here, 0, "race between blocks: %s of %s meets a %s by block %u at %s",
					  access_names[now->access], where(p, place, sizeof(place)), what, other_block,
					  there);
	dsocr_emu_die(here, 0, "race: %s of %s by thread %d meets a %s by thread %d at %s",
				  access_names[now->access], where(p, place, sizeof(place)), now->thread, what,
				  other_thread, there);
}

/* ---- the rules ---- */

/* Has a step of a thread ended for another thread of the block? */
static inline bool
ended(int thread, uint32_t at, int other)
{
	return thread == other || at < known[other / 32][thread / 32];
}

static void
check_writer(const Now *now, const Cell *c, const void *p)
{
	bool atomics = now->access == ATOMIC && (c->flags & FLAG_ATOMIC) != 0;

	if (c->w_launch != now->launch || (c->w_mask & now->mask) == 0)
		return;
	if (c->w_block != now->block)
	{
		if (!now->shared && !atomics &&
			!dsocr_emu_fence_orders(c->w_block, c->w_thread, c->w_step, now->thread))
			report(now, p, "write", true, c->w_block, c->w_thread, c->w_site);
		return;
	}
	if (c->flags & FLAG_UNDER_WAY)
		report(now, p, "cp.async that was not waited for", false, 0, c->w_thread, c->w_site);
	if (!atomics && !ended(c->w_thread, c->w_step, now->thread))
		report(now, p, "write", false, 0, c->w_thread, c->w_site);
}

static void
check_readers(const Now *now, const Cell *c, const void *p)
{
	if (c->r_launch != now->launch || (c->r_mask & now->mask) == 0)
		return;
	if (!now->shared && (c->r_block != now->block || (c->flags & FLAG_MANY_BLOCKS) != 0))
		report(now, p, "read", true, c->r_block, c->r_thread[0], c->r_site[0]);
	if (c->r_block != now->block)
		return;
	for (int i = 0; i < 2; i++)
		if (!ended(c->r_thread[i], c->r_step[i], now->thread))
			report(now, p, "read", false, 0, c->r_thread[i], c->r_site[i]);
}

static void
note_read(const Now *now, Cell *c)
{
	uint32_t at = step[now->thread / 32];

	if (c->r_launch != now->launch || c->r_block != now->block)
	{
		if (c->r_launch != now->launch)
			c->flags &= (uint8_t) ~FLAG_MANY_BLOCKS;
		else
			c->flags |= FLAG_MANY_BLOCKS;
		c->r_launch = now->launch;
		c->r_block = now->block;
		c->r_mask = 0;
		c->r_thread[1] = (uint16_t) now->thread;
		c->r_step[1] = at;
		c->r_site[1] = now->site;
	}
	else if (c->r_thread[0] != now->thread)
	{
		c->r_thread[1] = c->r_thread[0];
		c->r_step[1] = c->r_step[0];
		c->r_site[1] = c->r_site[0];
	}
	c->r_mask |= now->mask;
	c->r_thread[0] = (uint16_t) now->thread;
	c->r_step[0] = at;
	c->r_site[0] = now->site;
}

static void
note_write(const Now *now, Cell *c)
{
	uint32_t at = step[now->thread / 32];
	bool fresh = c->w_launch != now->launch || c->w_block != now->block;

	if (fresh && now->shared)
		c->flags = 0; /* shared memory begins anew with each block */
	if (fresh || c->w_thread != now->thread || c->w_step != at)
		c->w_mask = 0;
	c->w_launch = now->launch;
	c->w_block = now->block;
	c->w_thread = (uint16_t) now->thread;
	c->w_step = at;
	c->w_site = now->site;
	c->w_mask |= now->mask;
	c->flags &= (uint8_t) ~(FLAG_ATOMIC | FLAG_UNDER_WAY);
	c->flags |= (uint8_t) (FLAG_INITIALISED * now->mask);
	if (now->access == ATOMIC)
		c->flags |= FLAG_ATOMIC;
	else if (now->access == COPY)
		c->flags |= FLAG_UNDER_WAY;
}

static void
check_written(const Now *now, const Cell *c, const void *p)
{
	char place[64], here[400];

	bool known_bytes = (c->flags & FLAG_INITIALISED * now->mask) == FLAG_INITIALISED * now->mask;

	if (!check_uninitialised ||
		(known_bytes && (!now->shared || (c->w_launch == now->launch && c->w_block == now->block))))
		return;
	describe_site(now->site, now->file, here, sizeof(here));
	dsocr_emu_die(here, 0, "uninitialised: thread %d reads %s, which nobody has written",
				  now->thread, where(p, place, sizeof(place)));
}

/* Before a launch that began early has waited, it may not meet the launches in front. */
static void
check_early(const Now *now, const Cell *c, const void *p)
{
	const DsocrEmuBlock *b = &dsocr_emu_block;
	bool written = c->w_launch > b->ended && c->w_launch < now->launch;
	bool was_read = c->r_launch > b->ended && c->r_launch < now->launch;
	char place[64], here[400], there[400];

	if (now->shared || dsocr_emu_fibers[now->thread].waited ||
		!(written || (now->access != READ && was_read)))
		return;
	describe_site(now->site, now->file, here, sizeof(here));
	describe_site(written ? c->w_site : c->r_site[0], now->file, there, sizeof(there));
	dsocr_emu_die(here, 0,
				  "early: %s of %s before dsocr_grid_wait meets a %s of an earlier launch at %s",
				  access_names[now->access], where(p, place, sizeof(place)),
				  written ? "write" : "read", there);
}

static void
visit(const Now *now, Cell *c, const void *p)
{
	/* nothing can have happened since the thread looked the last time */
	if (now->access == READ && c->r_thread[0] == now->thread && c->r_launch == now->launch &&
		c->r_block == now->block && c->r_step[0] == step[now->thread / 32] &&
		(c->r_mask & now->mask) == now->mask)
		return;
	check_early(now, c, p);
	check_writer(now, c, p);
	if (now->access != READ)
		check_readers(now, c, p);
	if (now->access == READ || now->access == ATOMIC)
		check_written(now, c, p);
	if (now->access == READ)
		note_read(now, c);
	else
		note_write(now, c);
}

/* The cells of an address; NULL when nothing is kept of it.  Dies where a kernel may not go. */
static Cell *
find_cells(const void *p, size_t bytes, Now *now)
{
	const unsigned char *at = static_cast<const unsigned char *>(p);
	char here[400];

	for (int i = 0; i < 2; i++)
		if (at >= shared[i].p && at < static_cast<unsigned char *>(shared[i].p) + shared[i].bytes)
		{
			now->shared = true;
			if (!dsocr_emu_is_shared(p, bytes))
			{
				describe_site(now->site, now->file, here, sizeof(here));
				dsocr_emu_die(here, 0,
							  "%s of %zu bytes at offset %zu of %zu bytes of shared memory",
							  access_names[now->access], bytes,
							  (size_t) (at - static_cast<unsigned char *>(shared[i].p)),
							  dsocr_emu_block.launch->shared);
			}
			return shared_cells[i] + (at - static_cast<unsigned char *>(shared[i].p)) / GRAIN;
		}
	if (arena != NULL && at >= arena && at < arena + arena_bytes)
	{
		if (!dsocr_emu_is_allocated(p, bytes))
		{
			describe_site(now->site, now->file, here, sizeof(here));
			dsocr_emu_check_device(p, bytes, access_names[now->access], here, 0);
		}
		return device_cells + (at - arena) / GRAIN;
	}
	return NULL;
}

static void
visit_all(Access access, const void *p, size_t bytes, int thread, uint32_t site, const char *file)
{
	Now now = {};
	const unsigned char *at = static_cast<const unsigned char *>(p);
	const unsigned char *end = at + bytes;
	Cell *c;

	now.launch = (uint32_t) dsocr_emu_block.launch_number;
	now.block = (uint32_t) dsocr_emu_block.block_number;
	now.thread = thread;
	now.site = site;
	now.file = file;
	now.access = access;
	now.mask = WHOLE;
	c = find_cells(p, bytes, &now);
	if (c == NULL)
		return;
	/* both kinds of memory begin at even addresses */
	if ((uintptr_t) at % GRAIN != 0)
	{
		now.mask = 2;
		visit(&now, c++, at++);
		now.mask = WHOLE;
	}
	for (; at + GRAIN <= end; at += GRAIN)
		visit(&now, c++, at);
	if (at < end)
	{
		now.mask = 1;
		visit(&now, c, at);
	}
}

/* An access of instrumented code. */
static void
hook(Access access, const void *p, size_t bytes, const void *pc)
{
	const DsocrEmuLaunch *l = dsocr_emu_block.launch;
	uintptr_t at = (uintptr_t) p;
	uint32_t site;
	char here[400];

	if (bytes == 0 || (l != NULL && dsocr_emu_is_stack(p)))
		return;
	if (l == NULL &&
		(arena == NULL || at < (uintptr_t) arena || at >= (uintptr_t) arena + arena_bytes))
		return;
	site = (uint32_t) ((uintptr_t) pc - image_low);
	if (l == NULL)
	{
		describe_site(site, NULL, here, sizeof(here));
		dsocr_emu_die(here, 0, "host code touches device memory %p", p);
	}
	if (dsocr_emu_is_shared(p, bytes) ||
		(at >= (uintptr_t) arena && at < (uintptr_t) arena + arena_bytes) ||
		(at >= (uintptr_t) shared[0].p && at < (uintptr_t) shared[0].p + shared[0].bytes))
	{
		visit_all(access, p, bytes, dsocr_emu_block.current->index, site, NULL);
		return;
	}
	if ((at >= image_low && at < image_high) || dsocr_emu_place(p) == DSOCR_EMU_PINNED ||
		(at >= (uintptr_t) l->call.get() && at < (uintptr_t) l->call.get() + l->call_size))
		return;
	describe_site(site, NULL, here, sizeof(here));
	dsocr_emu_die(here, 0, "%s of host memory %p", access_names[access], p);
}

/* ---- what the rest of the emulator tells ---- */

void
dsocr_emu_race_launch(void)
{
	open_once();
	open_arena();
	open_shared();
	dsocr_emu_fence_launch();
}

void
dsocr_emu_race_fence(void)
{
	int thread = dsocr_emu_block.current->index;

	dsocr_emu_fence(thread, step[thread / 32], known[thread / 32]);
}

void
dsocr_emu_race_block(void)
{
	dsocr_emu_fence_block();
	for (int w = 0; w < DSOCR_EMU_MAX_WARPS; w++)
	{
		step[w] = 1;
		memset(known[w], 0, sizeof(known[w]));
		known[w][w] = 1;
	}
}

void
dsocr_emu_race_warp(int warp)
{
	known[warp][warp] = ++step[warp];
}

void
dsocr_emu_race_barrier(uint32_t warp_set)
{
	uint32_t all[DSOCR_EMU_MAX_WARPS] = {0};

	for (int w = 0; w < DSOCR_EMU_MAX_WARPS; w++)
		if (warp_set >> w & 1)
		{
			dsocr_emu_race_warp(w);
			for (int i = 0; i < DSOCR_EMU_MAX_WARPS; i++)
				all[i] = std::max(all[i], known[w][i]);
		}
	for (int w = 0; w < DSOCR_EMU_MAX_WARPS; w++)
		if (warp_set >> w & 1)
			memcpy(known[w], all, sizeof(all));
	dsocr_emu_fence_barrier(warp_set);
}

void
dsocr_emu_race_read(const void *p, size_t bytes, int thread, const char *file, int line)
{
	visit_all(READ, p, bytes, thread, SITE_LINE | (uint32_t) line, file);
}

void
dsocr_emu_race_atomic(void *p, size_t bytes)
{
	int thread = dsocr_emu_block.current->index;

	visit_all(ATOMIC, p, bytes, thread, SITE_LINE, "atomic");
	dsocr_emu_fence_atomic(p, thread, known[thread / 32]);
}

void
dsocr_emu_race_copy_start(const DsocrEmuCopy *copy)
{
	int thread = dsocr_emu_block.current->index;
	uint32_t site = SITE_LINE | (uint32_t) copy->line;

	if (copy->global != NULL)
		visit_all(READ, copy->global, 16, thread, site, copy->file);
	visit_all(COPY, copy->shared, 16, thread, site, copy->file);
}

void
dsocr_emu_race_copy_end(const DsocrEmuCopy *copy)
{
	int thread = dsocr_emu_block.current->index;
	Now now = {};
	Cell *c = find_cells(copy->shared, 16, &now);

	if (copy->global != NULL)
		visit_all(READ, copy->global, 16, thread, SITE_LINE | (uint32_t) copy->line, copy->file);
	for (int i = 0; i < 16 / GRAIN; i++)
	{
		c[i].flags &= (uint8_t) ~FLAG_UNDER_WAY;
		c[i].w_step = step[thread / 32];
	}
}

void
dsocr_emu_race_host_write(const void *p, size_t bytes)
{
	open_arena();
	if (arena == NULL || p < arena || p >= arena + arena_bytes)
		return;
	for (size_t i = 0; i < bytes; i++)
	{
		size_t at = (size_t) (static_cast<const unsigned char *>(p) - arena) + i;

		device_cells[at / GRAIN].flags |= (uint8_t) (FLAG_INITIALISED << at % GRAIN);
	}
}

void
dsocr_emu_race_fresh(const void *p, size_t bytes)
{
	uintptr_t first, last;
	Cell *c;

	open_arena();
	c = device_cells + (static_cast<const unsigned char *>(p) - arena) / GRAIN;
	/* allocations begin with a page and nobody else uses the rest of their last one */
	first = (uintptr_t) c / 4096 * 4096;
	last = ((uintptr_t) (c + bytes / GRAIN) + 4095) / 4096 * 4096;
	madvise(reinterpret_cast<void *>(first), last - first, MADV_DONTNEED);
}

/* ---- the run time of -fsanitize=thread ---- */

#define PC __builtin_return_address(0)
#define DSOCR_EMU_HOOKS(n)                                                                         \
	void __tsan_read##n(void *p)                                                                   \
	{                                                                                              \
		hook(READ, p, n, PC);                                                                      \
	}                                                                                              \
	void __tsan_write##n(void *p)                                                                  \
	{                                                                                              \
		hook(WRITE, p, n, PC);                                                                     \
	}                                                                                              \
	void __tsan_unaligned_read##n(void *p)                                                         \
	{                                                                                              \
		hook(READ, p, n, PC);                                                                      \
	}                                                                                              \
	void __tsan_unaligned_write##n(void *p)                                                        \
	{                                                                                              \
		hook(WRITE, p, n, PC);                                                                     \
	}                                                                                              \
	void __tsan_read_write##n(void *p)                                                             \
	{                                                                                              \
		hook(READ, p, n, PC);                                                                      \
		hook(WRITE, p, n, PC);                                                                     \
	}

extern "C"
{
#pragma GCC visibility push(default)
	DSOCR_EMU_HOOKS(1)
	DSOCR_EMU_HOOKS(2)
	DSOCR_EMU_HOOKS(4)
	DSOCR_EMU_HOOKS(8)
	DSOCR_EMU_HOOKS(16)

	void
	__tsan_init(void)
	{
	}

	void
	__tsan_func_entry(void *)
	{
	}

	void
	__tsan_func_exit(void)
	{
	}

	void
	__tsan_vptr_read(void **)
	{
	}

	void
	__tsan_vptr_update(void **, void *)
	{
	}

	/* memcpy and its like in kernels are renamed to these. */
	void *
	dsocr_emu_memcpy(void *dst, const void *src, size_t bytes)
	{
		hook(READ, src, bytes, PC);
		hook(WRITE, dst, bytes, PC);
		return memcpy(dst, src, bytes);
	}

	void *
	dsocr_emu_memmove(void *dst, const void *src, size_t bytes)
	{
		hook(READ, src, bytes, PC);
		hook(WRITE, dst, bytes, PC);
		return memmove(dst, src, bytes);
	}

	void *
	dsocr_emu_memset(void *dst, int value, size_t bytes)
	{
		hook(WRITE, dst, bytes, PC);
		return memset(dst, value, bytes);
	}
#pragma GCC visibility pop
}

#else

void
dsocr_emu_race_launch(void)
{
}

void
dsocr_emu_race_fence(void)
{
}

void
dsocr_emu_race_block(void)
{
}

void
dsocr_emu_race_warp(int)
{
}

void
dsocr_emu_race_barrier(uint32_t)
{
}

void
dsocr_emu_race_read(const void *, size_t, int, const char *, int)
{
}

void
dsocr_emu_race_atomic(void *, size_t)
{
}

void
dsocr_emu_race_copy_start(const DsocrEmuCopy *)
{
}

void
dsocr_emu_race_copy_end(const DsocrEmuCopy *)
{
}

void
dsocr_emu_race_host_write(const void *, size_t)
{
}

void
dsocr_emu_race_fresh(const void *, size_t)
{
}

#endif /* DSOCR_EMU_RACE */
