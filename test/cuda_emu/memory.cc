/*-------------------------------------------------------------------------
 *
 * memory.cc
 *		Device memory, pinned memory, and who may touch which byte.
 *
 * Device memory is one reserved range of addresses, so that every pointer
 * tells what it is.  Addresses are not given out again before the range is
 * used up.  Host code cannot read or write device memory: the range is only
 * accessible while a stream runs.
 *
 * Settings: DSOCR_EMU_MEMORY is the size of the device, DSOCR_EMU_FAIL_MALLOC
 * the number of bytes after which it gives no more, DSOCR_EMU_VISIBLE=1 lets
 * host code touch device memory.
 *
 *-------------------------------------------------------------------------
 */
#include "emu_internal.h"

#include <map>
#include <stdio.h>
#include <sys/mman.h>

#define ARENA_BYTES ((size_t) 32 << 30)
#define MEMORY_BYTES ((int64_t) 1 << 30)
#define GAP 4096
#define POISONED_BYTES ((size_t) 32 << 20) /* more would touch too much of this machine */

typedef std::map<uintptr_t, size_t> Ranges; /* bytes by address */

static unsigned char *arena;
static size_t cursor;
static size_t in_use;
static uint64_t changes; /* of allocations */
static int visible_depth;
static Ranges allocations;
static Ranges pinned;

void
dsocr_emu_memory_open(void)
{
	if (arena != NULL)
		return;
	arena = static_cast<unsigned char *>(mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
											  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	if (arena == MAP_FAILED)
		dsocr_emu_die(__FILE__, __LINE__, "no addresses for device memory");
	if (dsocr_emu_setting("DSOCR_EMU_VISIBLE", 0) != 0)
		visible_depth = 1;
	else
		mprotect(arena, ARENA_BYTES, PROT_NONE);
	DSOCR_EMU_HIDE(arena, 4096);
}

unsigned char *
dsocr_emu_arena(size_t *bytes)
{
	*bytes = ARENA_BYTES;
	return arena;
}

void
dsocr_emu_memory_visible(bool visible)
{
	if (visible && visible_depth++ == 0)
		mprotect(arena, ARENA_BYTES, PROT_READ | PROT_WRITE);
	else if (!visible && --visible_depth == 0)
		mprotect(arena, ARENA_BYTES, PROT_NONE);
}

/* The entry that begins at or before p. */
static Ranges::iterator
entry_at(Ranges &map, uintptr_t p)
{
	Ranges::iterator it = map.upper_bound(p);

	return it == map.begin() ? map.end() : --it;
}

DsocrEmuPlace
dsocr_emu_place(const void *p)
{
	Ranges::iterator it;

	if (arena != NULL && p >= arena && p < arena + ARENA_BYTES)
		return DSOCR_EMU_DEVICE;
	it = entry_at(pinned, (uintptr_t) p);
	return it != pinned.end() && (uintptr_t) p - it->first < it->second ? DSOCR_EMU_PINNED
																		: DSOCR_EMU_HOST;
}

bool
dsocr_emu_is_allocated(const void *p, size_t bytes)
{
	static uintptr_t low, high; /* of the last allocation asked for */
	static uint64_t asked_at;
	uintptr_t at = (uintptr_t) p;
	Ranges::iterator it;

	if (asked_at == changes && at >= low && at + bytes <= high)
		return true;
	it = entry_at(allocations, at);
	if (it == allocations.end() || at - it->first + bytes > it->second)
		return false;
	low = it->first;
	high = low + it->second;
	asked_at = changes;
	return true;
}

void
dsocr_emu_check_device(const void *p, size_t bytes, const char *what, const char *file, int line)
{
	uintptr_t at = (uintptr_t) p;
	Ranges::iterator it = entry_at(allocations, at);

	if (bytes == 0 || dsocr_emu_is_allocated(p, bytes) || dsocr_emu_place(p) == DSOCR_EMU_PINNED)
		return;
	if (dsocr_emu_place(p) == DSOCR_EMU_HOST)
		dsocr_emu_die(file, line, "%s: %p is not device memory", what, p);
	if (it == allocations.end() || at - it->first >= it->second)
		dsocr_emu_die(file, line, "%s: %p is not allocated", what, p);
	if (at - it->first + bytes > it->second)
		dsocr_emu_die(file, line, "%s: %zu bytes at offset %zu of an allocation of %zu", what,
					  bytes, (size_t) (at - it->first), it->second);
}

/* ---- allocations ---- */

static void
poison(void *p, size_t bytes)
{
	dsocr_emu_memory_visible(true);
	memset(p, DSOCR_EMU_POISON, std::min(bytes, POISONED_BYTES));
	dsocr_emu_memory_visible(false);
	dsocr_emu_race_fresh(p, bytes);
}

static size_t
device_bytes()
{
	static int64_t bytes = dsocr_emu_setting("DSOCR_EMU_MEMORY", MEMORY_BYTES);

	return (size_t) bytes;
}

/* Offset of a free range behind the cursor; 0 when there is none. */
static size_t
find_range(size_t bytes)
{
	size_t at = std::max(cursor, (size_t) GAP);

	for (const Ranges::value_type &a : allocations)
	{
		size_t begin = a.first - (uintptr_t) arena;

		if (begin + a.second + GAP <= at)
			continue;
		if (at + bytes + GAP <= begin)
			break;
		at = (begin + a.second + GAP + GAP - 1) / GAP * GAP;
	}
	return at + bytes + GAP <= ARENA_BYTES ? at : 0;
}

bool
dsocr_emu_device_alloc(void **p, size_t bytes)
{
	static int64_t most = dsocr_emu_setting("DSOCR_EMU_FAIL_MALLOC", INT64_MAX);
	size_t at;

	dsocr_emu_memory_open();
	*p = NULL;
	if (bytes == 0)
		return true;
	if (bytes > device_bytes() - in_use || in_use + bytes > (size_t) most)
		return false;
	at = find_range(bytes);
	if (at == 0)
	{
		cursor = 0;
		at = find_range(bytes);
	}
	if (at == 0)
		return false;
	cursor = (at + bytes + GAP + GAP - 1) / GAP * GAP;
	*p = arena + at;
	in_use += bytes;
	changes++;
	allocations[(uintptr_t) *p] = bytes;
	DSOCR_EMU_SHOW(*p, bytes);
	DSOCR_EMU_HIDE(arena + at + bytes, cursor - at - bytes);
	poison(*p, bytes);
	return true;
}

bool
dsocr_emu_device_free(void *p)
{
	Ranges::iterator it = allocations.find((uintptr_t) p);
	size_t bytes;

	if (it == allocations.end())
		return false;
	bytes = it->second;
	in_use -= bytes;
	changes++;
	allocations.erase(it);
	DSOCR_EMU_HIDE(p, bytes);
	madvise(p, (bytes + GAP - 1) / GAP * GAP, MADV_DONTNEED);
	return true;
}

void
dsocr_emu_device_info(size_t *available, size_t *total)
{
	*total = device_bytes();
	*available = *total - in_use;
}

/* ---- pinned memory ---- */

void
dsocr_emu_pin(void *p, size_t bytes)
{
	pinned[(uintptr_t) p] = bytes;
}

bool
dsocr_emu_unpin(void *p)
{
	return pinned.erase((uintptr_t) p) == 1;
}
