/*-------------------------------------------------------------------------
 *
 * fence.cc
 *		Order between blocks for the race detector: fences and atomics.
 *
 * A block hands on what it wrote by a fence and then an atomic: what the
 * thread of the atomic knew at its last fence is released there, and so is
 * what other threads wrote before fences of their own that it knows of.  A
 * block that then changes the same address by an atomic, and goes through a
 * fence behind it, may use what was released; barriers bring both the atomic
 * and the fence to the other warps.
 *
 *-------------------------------------------------------------------------
 */
#include "emu_internal.h"

#include <map>

/* What one block has released: steps that had ended, and fences of single threads. */
typedef struct Released
{
	uint32_t known[DSOCR_EMU_MAX_WARPS];
	uint32_t own[DSOCR_EMU_MAX_THREADS];
} Released;

typedef std::map<uint32_t, Released> Blocks; /* by number */

/* The last fence of a thread. */
typedef struct Fence
{
	uint32_t step; /* 0: none */
	uint32_t known[DSOCR_EMU_MAX_WARPS];
} Fence;

static std::map<const void *, Blocks> released; /* by address of the atomic */
static Fence fences[DSOCR_EMU_MAX_THREADS];
static bool any_fence; /* in the block */
static bool any_seen;
static Blocks seen[DSOCR_EMU_MAX_WARPS];	 /* by atomics of the warp, no fence yet */
static Blocks acquired[DSOCR_EMU_MAX_WARPS]; /* and with a fence behind */

static void
join(Released *to, const Released *from)
{
	for (int w = 0; w < DSOCR_EMU_MAX_WARPS; w++)
		to->known[w] = std::max(to->known[w], from->known[w]);
	for (int t = 0; t < DSOCR_EMU_MAX_THREADS; t++)
		to->own[t] = std::max(to->own[t], from->own[t]);
}

static void
join_all(Blocks *to, const Blocks *from)
{
	for (const Blocks::value_type &b : *from)
		join(&(*to)[b.first], &b.second);
}

void
dsocr_emu_fence_launch(void)
{
	released.clear();
}

void
dsocr_emu_fence_block(void)
{
	if (any_fence)
		memset(fences, 0, sizeof(fences));
	if (any_seen)
		for (int w = 0; w < DSOCR_EMU_MAX_WARPS; w++)
		{
			seen[w].clear();
			acquired[w].clear();
		}
	any_fence = false;
	any_seen = false;
}

void
dsocr_emu_fence(int thread, uint32_t step, const uint32_t *known)
{
	fences[thread].step = step;
	memcpy(fences[thread].known, known, sizeof(fences[thread].known));
	any_fence = true;
	if (any_seen)
		join_all(&acquired[thread / 32], &seen[thread / 32]);
}

void
dsocr_emu_fence_atomic(const void *p, int thread, const uint32_t *known)
{
	std::map<const void *, Blocks>::iterator at;

	if (dsocr_emu_place(p) != DSOCR_EMU_DEVICE)
		return;
	at = released.find(p);
	if (at != released.end())
	{
		any_seen = true;
		join_all(&seen[thread / 32], &at->second);
	}
	if (any_fence)
	{
		Released r = {};

		memcpy(r.known, fences[thread].known, sizeof(r.known));
		for (int t = 0; t < DSOCR_EMU_MAX_THREADS; t++)
			if (t == thread || fences[t].step < known[t / 32])
				r.own[t] = fences[t].step;
		/* who hands on also hands on what was handed to it */
		if (any_seen)
			join_all(&released[p], &acquired[thread / 32]);
		join(&released[p][(uint32_t) dsocr_emu_block.block_number], &r);
	}
}

void
dsocr_emu_fence_barrier(uint32_t warp_set)
{
	Blocks all_seen, all_acquired;

	if (!any_seen)
		return;
	for (int w = 0; w < DSOCR_EMU_MAX_WARPS; w++)
		if (warp_set >> w & 1)
		{
			join_all(&all_seen, &seen[w]);
			join_all(&all_acquired, &acquired[w]);
		}
	for (int w = 0; w < DSOCR_EMU_MAX_WARPS; w++)
		if (warp_set >> w & 1)
		{
			seen[w] = all_seen;
			acquired[w] = all_acquired;
		}
}

bool
dsocr_emu_fence_orders(uint32_t block, int thread, uint32_t step, int reader)
{
	Blocks::const_iterator b;

	if (!any_seen)
		return false;
	b = acquired[reader / 32].find(block);
	return b != acquired[reader / 32].end() &&
		   (step < b->second.known[thread / 32] || step <= b->second.own[thread]);
}
