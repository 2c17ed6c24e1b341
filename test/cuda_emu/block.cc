/*-------------------------------------------------------------------------
 *
 * block.cc
 *		Runs the blocks of a launch: fibers, barriers, shared memory.
 *
 * A fiber runs until it has to wait for others; then the next one that can
 * run goes on.  When none can and not all have ended, the kernel hangs on a
 * real device: here it is told who waits where.
 *
 * The order of blocks and of threads is one that CUDA allows; the setting
 * DSOCR_EMU_ORDER (0 forward, 1 backward, else a seed) chooses another.
 *
 *-------------------------------------------------------------------------
 */
#include "emu_internal.h"

#include <dlfcn.h>
#include <elf.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>

#ifdef DSOCR_EMU_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#define STACK_BYTES ((size_t) 256 * 1024)
#define SHARED_ROOM ((size_t) 512 * 1024)
#define CANARY_BYTES 256
#define CANARY 0xa5

uint3 dsocr_emu_thread_idx;
uint3 dsocr_emu_block_idx;
dim3 dsocr_emu_block_dim;
dim3 dsocr_emu_grid_dim;

DsocrEmuBlock dsocr_emu_block;
DsocrEmuFiber dsocr_emu_fibers[DSOCR_EMU_MAX_THREADS];

static DsocrEmuFiber host; /* the context of whoever runs the launch */
static int ready[DSOCR_EMU_MAX_THREADS];
static int ready_first, ready_count;
static unsigned char *stacks;
static unsigned char *shared_base;
static unsigned char *static_shared;
static size_t static_shared_bytes;

/* ---- messages ---- */

/* The kernel's name: the text of the call up to the first comma outside of brackets. */
static int
name_length(const char *name)
{
	int depth = 0;
	int i;

	for (i = 0; name[i] != '\0'; i++)
	{
		if (strchr("(<[", name[i]) != NULL)
			depth++;
		else if (strchr(")>]", name[i]) != NULL)
			depth--;
		else if (name[i] == ',' && depth <= 0)
			break;
	}
	return i;
}

void
dsocr_emu_die(const char *file, int line, const char *fmt, ...)
{
	const DsocrEmuLaunch *l = dsocr_emu_block.launch;
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "cuda_emu: %s:%d: ", file != NULL ? file : "?", line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	if (l != NULL)
	{
		fprintf(stderr,
				"cuda_emu: kernel %.*s, launched at %s:%d, grid (%u,%u,%u), block (%u,%u,%u)\n",
				name_length(l->name), l->name, l->file, l->line, l->grid.x, l->grid.y, l->grid.z,
				l->block.x, l->block.y, l->block.z);
		fprintf(stderr, "cuda_emu: block (%u,%u,%u), thread (%u,%u,%u)\n", dsocr_emu_block_idx.x,
				dsocr_emu_block_idx.y, dsocr_emu_block_idx.z, dsocr_emu_thread_idx.x,
				dsocr_emu_thread_idx.y, dsocr_emu_thread_idx.z);
	}
	fflush(stderr);
	abort();
}

int64_t
dsocr_emu_setting(const char *name, int64_t number)
{
	const char *value = getenv(name);

	return value != NULL && value[0] != '\0' ? strtoll(value, NULL, 10) : number;
}

/* A crash of a kernel is told like everything else. */
static void
crashed(int signal_number, siginfo_t *info, void *)
{
	dsocr_emu_die("signal", signal_number, "crash at address %p", info->si_addr);
}

static void
watch_crashes()
{
#ifndef DSOCR_EMU_ASAN
	static char stack[65536];
	stack_t alternative = {};
	struct sigaction action = {};

	alternative.ss_sp = stack;
	alternative.ss_size = sizeof(stack);
	action.sa_sigaction = crashed;
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND;
	sigaltstack(&alternative, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
#endif
}

void
dsocr_emu_check_aligned(const void *p, size_t alignment)
{
	if ((uintptr_t) p % alignment != 0)
		dsocr_emu_die("vector", 0, "%p is not aligned to %zu bytes", p, alignment);
}

/* ---- switching ---- */

#if defined(__x86_64__)
extern "C" void dsocr_emu_swap(void **from, void *to);

asm(".text\n"
	".globl dsocr_emu_swap\n"
	".hidden dsocr_emu_swap\n"
	".type dsocr_emu_swap, @function\n"
	"dsocr_emu_swap:\n"
	"	pushq %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	ret\n"
	".size dsocr_emu_swap, . - dsocr_emu_swap\n");

#define SAVED_REGISTERS 6
#elif defined(__aarch64__)
extern "C" void dsocr_emu_swap(void **from, void *to);

asm(".text\n"
	".globl dsocr_emu_swap\n"
	".hidden dsocr_emu_swap\n"
	".type dsocr_emu_swap, %function\n"
	"dsocr_emu_swap:\n"
	"	sub sp, sp, #160\n"
	"	stp x19, x20, [sp, #0]\n"
	"	stp x21, x22, [sp, #16]\n"
	"	stp x23, x24, [sp, #32]\n"
	"	stp x25, x26, [sp, #48]\n"
	"	stp x27, x28, [sp, #64]\n"
	"	stp d8, d9, [sp, #80]\n"
	"	stp d10, d11, [sp, #96]\n"
	"	stp d12, d13, [sp, #112]\n"
	"	stp d14, d15, [sp, #128]\n"
	"	stp x29, x30, [sp, #144]\n"
	"	mov x9, sp\n"
	"	str x9, [x0]\n"
	"	mov sp, x1\n"
	"	ldp x19, x20, [sp, #0]\n"
	"	ldp x21, x22, [sp, #16]\n"
	"	ldp x23, x24, [sp, #32]\n"
	"	ldp x25, x26, [sp, #48]\n"
	"	ldp x27, x28, [sp, #64]\n"
	"	ldp d8, d9, [sp, #80]\n"
	"	ldp d10, d11, [sp, #96]\n"
	"	ldp d12, d13, [sp, #112]\n"
	"	ldp d14, d15, [sp, #128]\n"
	"	ldp x29, x30, [sp, #144]\n"
	"	add sp, sp, #160\n"
	"	ret\n"
	".size dsocr_emu_swap, . - dsocr_emu_swap\n");
#else
#error "no fibers for this processor"
#endif

#ifdef DSOCR_EMU_ASAN
/* The sanitizer tells where the stack lies that we came from. */
static void
arrived(void *fake_stack, bool from_host)
{
	const void *bottom;
	size_t bytes;

	__sanitizer_finish_switch_fiber(fake_stack, &bottom, &bytes);
	if (from_host)
	{
		host.stack = (unsigned char *) bottom;
		host.stack_bytes = bytes;
	}
}
#endif

static bool came_from_host;

static void
switch_fiber(DsocrEmuFiber *from, DsocrEmuFiber *to)
{
	came_from_host = from == &host;
	dsocr_emu_block.current = to;
	dsocr_emu_thread_idx = to->thread;
#ifdef DSOCR_EMU_ASAN
	__sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
	dsocr_emu_swap(&from->sp, to->sp);
	arrived(from->fake_stack, came_from_host);
#else
	dsocr_emu_swap(&from->sp, to->sp);
#endif
}

static void
make_ready(DsocrEmuFiber *f)
{
	f->state = DSOCR_EMU_READY;
	ready[(ready_first + ready_count++) % DSOCR_EMU_MAX_THREADS] = f->index;
}

static void
die_of_deadlock()
{
	DsocrEmuBlock *b = &dsocr_emu_block;
	char text[1500];
	size_t n = 0;
	int shown = 0;

	text[0] = '\0';
	for (int i = 0; i < b->threads && shown < 6; i++)
	{
		const DsocrEmuFiber *f = &dsocr_emu_fibers[i];
		const DsocrEmuFiber *last = i > 0 ? f - 1 : NULL;
		const char *file = f->state == DSOCR_EMU_IN_WARP ? f->request->file : f->file;
		int line = f->state == DSOCR_EMU_IN_WARP ? f->request->line : f->line;

		if (last != NULL && last->state == f->state &&
			(f->state != DSOCR_EMU_IN_BARRIER || last->line == f->line) &&
			(f->state != DSOCR_EMU_IN_WARP || last->request->line == f->request->line))
			continue;
		shown++;
		if (f->state == DSOCR_EMU_DONE)
			n += (size_t) snprintf(text + n, sizeof(text) - n, "; from thread %d: ended", i);
		else if (f->state == DSOCR_EMU_IN_WARP)
			n += (size_t) snprintf(text + n, sizeof(text) - n,
								   "; from thread %d: in a warp function at %s:%d", i, file, line);
		else
			n += (size_t) snprintf(
				text + n, sizeof(text) - n, "; from thread %d: in barrier %d (%d of %d) at %s:%d",
				i, f->barrier, b->waiting[f->barrier], f->barrier_threads, file, line);
		if (n >= sizeof(text))
			break;
	}
	dsocr_emu_die(b->launch->file, b->launch->line, "deadlock%s", text);
}

/* Give way until somebody makes this fiber ready again. */
static void
give_way(DsocrEmuFiber *self)
{
	DsocrEmuFiber *next;

	if (ready_count == 0)
	{
		if (dsocr_emu_block.done < dsocr_emu_block.threads)
			die_of_deadlock();
		next = &host;
	}
	else
	{
		next = &dsocr_emu_fibers[ready[ready_first]];
		ready_first = (ready_first + 1) % DSOCR_EMU_MAX_THREADS;
		ready_count--;
	}
	switch_fiber(self, next);
}

static void
thread_ended(DsocrEmuFiber *f)
{
	DsocrEmuBlock *b = &dsocr_emu_block;
	int warp = f->index / 32;

	f->state = DSOCR_EMU_DONE;
	b->done++;
	if (b->arrived[warp] > 0)
		for (int i = warp * 32; i < warp * 32 + 32; i++)
			if (dsocr_emu_fibers[i].state == DSOCR_EMU_IN_WARP)
				dsocr_emu_die(dsocr_emu_fibers[i].request->file, dsocr_emu_fibers[i].request->line,
							  "thread %d left while lane %d waits in a warp function", f->index,
							  i % 32);
	if (b->waiting[0] > 0)
		for (int i = 0; i < b->threads; i++)
			if (dsocr_emu_fibers[i].state == DSOCR_EMU_IN_BARRIER &&
				dsocr_emu_fibers[i].barrier == 0)
				dsocr_emu_die(dsocr_emu_fibers[i].file, dsocr_emu_fibers[i].line,
							  "thread %d left while thread %d waits in __syncthreads", f->index, i);
	f->copies.clear();
}

static void
fiber_main()
{
	DsocrEmuFiber *self = dsocr_emu_block.current;

#ifdef DSOCR_EMU_ASAN
	arrived(NULL, came_from_host);
#endif
	for (;;)
	{
		const DsocrEmuLaunch *l = dsocr_emu_block.launch;

		l->run(l->call.get());
		thread_ended(self);
		give_way(self);
	}
}

static void
fiber_open(DsocrEmuFiber *f, int index)
{
	void **top;

	f->index = index;
	f->stack = stacks + (size_t) index * STACK_BYTES;
	f->stack_bytes = STACK_BYTES;
	mprotect(f->stack, 4096, PROT_NONE);
	f->stack += 4096;
	f->stack_bytes -= 4096;
	top = reinterpret_cast<void **>(f->stack + f->stack_bytes);
#if defined(__x86_64__)
	*--top =
		NULL; /* where fiber_main would return to: 8 below a multiple of 16, as calls leave it */
	*--top = reinterpret_cast<void *>(fiber_main);
	for (int i = 0; i < SAVED_REGISTERS; i++)
		*--top = NULL;
#else
	top -= 20;
	memset(top, 0, 160);
	top[19] = reinterpret_cast<void *>(fiber_main);
#endif
	f->sp = top;
}

/* ---- static shared memory: a section of the file that holds the kernels ---- */

static void
find_static_shared()
{
	Dl_info info;
	Elf64_Ehdr header;
	FILE *file;

	if (dladdr(reinterpret_cast<void *>(&dsocr_emu_block), &info) == 0)
		return;
	file = fopen(info.dli_fname, "rb");
	if (file == NULL)
		file = fopen("/proc/self/exe", "rb");
	if (file == NULL)
		return;
	if (fread(&header, sizeof(header), 1, file) == 1 && header.e_shnum > 0)
	{
		std::vector<Elf64_Shdr> sections(header.e_shnum);
		std::vector<char> names;

		if (fseek(file, (long) header.e_shoff, SEEK_SET) == 0 &&
			fread(sections.data(), sizeof(Elf64_Shdr), header.e_shnum, file) == header.e_shnum)
		{
			const Elf64_Shdr *strings = &sections[header.e_shstrndx];

			names.resize(strings->sh_size + 1);
			if (fseek(file, (long) strings->sh_offset, SEEK_SET) == 0 &&
				fread(names.data(), 1, strings->sh_size, file) == strings->sh_size)
				for (const Elf64_Shdr &s : sections)
					if (strcmp(names.data() + s.sh_name, ".dsocr_shared") == 0)
					{
						uintptr_t base = header.e_type == ET_DYN ? (uintptr_t) info.dli_fbase : 0;

						static_shared = reinterpret_cast<unsigned char *>(base + s.sh_addr);
						static_shared_bytes = s.sh_size;
					}
		}
	}
	fclose(file);
}

static void
open_once()
{
	if (stacks != NULL)
		return;
	stacks = static_cast<unsigned char *>(mmap(NULL, DSOCR_EMU_MAX_THREADS * STACK_BYTES,
											   PROT_READ | PROT_WRITE,
											   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	shared_base = static_cast<unsigned char *>(
		mmap(NULL, SHARED_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	if (stacks == MAP_FAILED || shared_base == MAP_FAILED)
		dsocr_emu_die(__FILE__, __LINE__, "no memory for fibers");
	for (int i = 0; i < DSOCR_EMU_MAX_THREADS; i++)
		fiber_open(&dsocr_emu_fibers[i], i);
	find_static_shared();
	watch_crashes();
}

bool
dsocr_emu_is_shared(const void *p, size_t bytes)
{
	const unsigned char *at = static_cast<const unsigned char *>(p);
	const DsocrEmuLaunch *l = dsocr_emu_block.launch;

	return (l != NULL && at >= shared_base && at + bytes <= shared_base + l->shared) ||
		   (static_shared != NULL && at >= static_shared &&
			at + bytes <= static_shared + static_shared_bytes);
}

bool
dsocr_emu_is_stack(const void *p)
{
	const unsigned char *at = static_cast<const unsigned char *>(p);

	return at >= stacks && at < stacks + DSOCR_EMU_MAX_THREADS * STACK_BYTES;
}

void
dsocr_emu_shared_ranges(DsocrEmuRange *dynamic, DsocrEmuRange *fixed)
{
	*dynamic = {shared_base, SHARED_ROOM};
	*fixed = {static_shared, static_shared_bytes};
}

void *
dsocr_emu_shared(const char *file, int line)
{
	if (dsocr_emu_block.launch->shared == 0)
		dsocr_emu_die(file, line, "the launch gave no dynamic shared memory");
	return shared_base;
}

/* memset that may touch what the address sanitizer guards; bytes is a multiple of 8 */
static void
fill(unsigned char *p, unsigned char value, size_t bytes)
{
#ifdef __x86_64__
	asm volatile("rep stosb" : "+D"(p), "+c"(bytes) : "a"(value) : "memory");
#else
	volatile uint64_t *words = reinterpret_cast<volatile uint64_t *>(p);

	for (size_t i = 0; i < bytes / 8; i++)
		words[i] = value * 0x0101010101010101u;
#endif
}

/* What a block finds in shared memory is nothing that it could rely on. */
static void
poison_shared(size_t bytes)
{
	memset(shared_base, DSOCR_EMU_POISON, bytes);
	memset(shared_base + bytes, CANARY, CANARY_BYTES);
	if (static_shared != NULL)
		fill(static_shared, DSOCR_EMU_POISON, static_shared_bytes);
}

static void
check_canary(size_t bytes)
{
	for (int i = 0; i < CANARY_BYTES; i++)
		if (shared_base[bytes + (size_t) i] != CANARY)
			dsocr_emu_die(dsocr_emu_block.launch->file, dsocr_emu_block.launch->line,
						  "the block wrote %d bytes behind its %zu bytes of shared memory", i,
						  bytes);
}

/* ---- blocks ---- */

/* The i-th of n in the chosen order. */
static uint64_t
in_order(uint64_t i, uint64_t n, int64_t order)
{
	uint64_t stride;

	if (order == 0)
		return i;
	if (order == 1)
		return n - 1 - i;
	stride = (uint64_t) order * 2654435761u % n | 1;
	while (std::__gcd(stride, n) != 1)
		stride += 2;
	return (i * stride + (uint64_t) order) % n;
}

static void
run_block(const DsocrEmuLaunch &l, int64_t order)
{
	DsocrEmuBlock *b = &dsocr_emu_block;

	b->threads = (int) (l.block.x * l.block.y * l.block.z);
	b->warps = (b->threads + 31) / 32;
	b->done = 0;
	memset(b->arrived, 0, sizeof(b->arrived));
	memset(b->waiting, 0, sizeof(b->waiting));
	ready_first = 0;
	ready_count = 0;
	for (int i = 0; i < b->threads; i++)
	{
		DsocrEmuFiber *f = &dsocr_emu_fibers[in_order((uint64_t) i, (uint64_t) b->threads, order)];
		unsigned int at = (unsigned int) f->index;

		f->thread = {at % l.block.x, at / l.block.x % l.block.y, at / l.block.x / l.block.y};
		f->groups = 0;
		f->waited = !l.early;
		make_ready(f);
	}
	poison_shared(l.shared);
	DSOCR_EMU_HIDE(shared_base + l.shared, SHARED_ROOM - l.shared);
	dsocr_emu_race_block();
	give_way(&host);
	DSOCR_EMU_SHOW(shared_base + l.shared, SHARED_ROOM - l.shared);
	check_canary(l.shared);
}

/* ---- launches that begin early ---- */

/*
 * Launch n, when early, may begin as soon as all blocks of n - 1 let it.  If
 * they did so after they had waited themselves, n - 2 has ended by then.
 */
static void
find_ended(const DsocrEmuLaunch &l)
{
	DsocrEmuBlock *b = &dsocr_emu_block;

	if (!l.early || b->behind_copy)
		b->ended = b->launch_number - 1;
	else if (!b->lets_go)
		b->ended = std::max(b->ended, b->launch_number - 2);
	b->waits = !l.early;
	b->lets_go = false;
	b->behind_copy = false;
}

void
dsocr_grid_wait()
{
	dsocr_emu_block.current->waited = true;
	dsocr_emu_block.waits = true;
}

void
dsocr_grid_release()
{
	if (!dsocr_emu_block.current->waited)
		dsocr_emu_block.lets_go = true;
}

/* ---- launches ---- */

void
dsocr_emu_run_launch(const DsocrEmuLaunch &l)
{
	static int64_t order = dsocr_emu_setting("DSOCR_EMU_ORDER", 0);
	uint64_t blocks = (uint64_t) l.grid.x * l.grid.y * l.grid.z;

	open_once();
	host.index = -1;
	dsocr_emu_block.launch = &l;
	dsocr_emu_block.launch_number++;
	dsocr_emu_block_dim = l.block;
	dsocr_emu_grid_dim = l.grid;
	find_ended(l);
	dsocr_emu_race_launch();
	for (uint64_t i = 0; i < blocks; i++)
	{
		uint64_t at = in_order(i, blocks, order);

		dsocr_emu_block.block_number = at;
		dsocr_emu_block_idx = {(unsigned int) (at % l.grid.x),
							   (unsigned int) (at / l.grid.x % l.grid.y),
							   (unsigned int) (at / l.grid.x / l.grid.y)};
		run_block(l, order);
	}
	/* its end says nothing of the launches in front then */
	if (!dsocr_emu_block.waits)
		dsocr_emu_die(l.file, l.line, "launched early, but nobody called dsocr_grid_wait");
	dsocr_emu_block.launch = NULL;
	dsocr_emu_block.current = NULL;
}

/* ---- barriers ---- */

static void
leave_barrier(int id)
{
	DsocrEmuBlock *b = &dsocr_emu_block;
	int lanes[DSOCR_EMU_MAX_WARPS] = {0};
	uint32_t warp_set = 0;

	for (int i = 0; i < b->threads; i++)
	{
		DsocrEmuFiber *f = &dsocr_emu_fibers[i];

		if (f->state != DSOCR_EMU_IN_BARRIER || f->barrier != id)
			continue;
		lanes[i / 32]++;
		warp_set |= 1u << (i / 32);
		if (f != b->current)
			make_ready(f);
	}
	b->current->state = DSOCR_EMU_READY;
	b->waiting[id] = 0;
	for (int w = 0; w < b->warps; w++)
		if (lanes[w] != 0 && lanes[w] != std::min(32, b->threads - w * 32))
			dsocr_emu_die(b->current->file, b->current->line,
						  "barrier %d was reached by %d lanes of warp %d", id, lanes[w], w);
	dsocr_emu_race_barrier(warp_set);
}

void
dsocr_emu_barrier(int id, int threads, const char *file, int line)
{
	DsocrEmuBlock *b = &dsocr_emu_block;
	DsocrEmuFiber *self = b->current;
	bool whole = threads == 0;

	if (id < 0 || id >= DSOCR_EMU_BARRIERS || (!whole && (id == 0 || threads % 32 != 0)))
		dsocr_emu_die(file, line, "barrier %d of %d threads", id, threads);
	if (whole)
	{
		threads = b->threads;
		if (b->done > 0)
			dsocr_emu_die(file, line, "__syncthreads after %d threads of the block left", b->done);
	}
	if (threads > b->threads)
		dsocr_emu_die(file, line, "barrier %d of %d threads in a block of %d", id, threads,
					  b->threads);
	if (b->waiting[id] > 0)
	{
		const DsocrEmuFiber *f = b->first[id];

		if (f->barrier_threads != threads)
			dsocr_emu_die(file, line,
						  "barrier %d of %d threads, where thread %d waits for %d at %s:%d", id,
						  threads, f->index, f->barrier_threads, f->file, f->line);
		if (whole && (f->line != line || (f->file != file && strcmp(f->file, file) != 0)))
			dsocr_emu_die(file, line, "thread %d waits in another __syncthreads, at %s:%d",
						  f->index, f->file, f->line);
	}
	else
		b->first[id] = self;
	self->state = DSOCR_EMU_IN_BARRIER;
	self->barrier = id;
	self->barrier_threads = threads;
	self->file = file;
	self->line = line;
	if (++b->waiting[id] == threads)
		leave_barrier(id);
	else
		give_way(self);
}

/* ---- warp functions ---- */

static const char *const op_names[] = {
	"__syncwarp",		 "__shfl_sync",		  "__shfl_up_sync",	   "__shfl_down_sync",
	"__shfl_xor_sync",	 "__ballot_sync",	  "__any_sync",		   "__all_sync",
	"__match_any_sync",	 "__reduce_add_sync", "__reduce_add_sync", "__reduce_max_sync",
	"__reduce_max_sync", "__reduce_min_sync", "__reduce_min_sync", "dsocr_mma_bf16",
	"dsocr_ldmatrix"};

static void
check_same_call(const DsocrEmuRequest *r, int lane, const DsocrEmuRequest *other, int other_lane)
{
	if (r->op != other->op || r->line != other->line ||
		(r->file != other->file && strcmp(r->file, other->file) != 0))
		dsocr_emu_die(r->file, r->line, "lane %d is in %s while lane %d is in %s at %s:%d", lane,
					  op_names[r->op], other_lane, op_names[other->op], other->file, other->line);
}

void
dsocr_emu_warp(DsocrEmuRequest *r)
{
	DsocrEmuBlock *b = &dsocr_emu_block;
	DsocrEmuFiber *self = b->current;
	int warp = self->index / 32;
	DsocrEmuFiber *first = &dsocr_emu_fibers[warp * 32];
	DsocrEmuRequest *lanes[32];

	if (r->mask != 0xffffffffu)
		dsocr_emu_die(r->file, r->line, "%s with mask %08x instead of the full one",
					  op_names[r->op], r->mask);
	if (b->threads - warp * 32 < 32)
		dsocr_emu_die(r->file, r->line, "%s in a warp of %d threads", op_names[r->op],
					  b->threads - warp * 32);
	if (b->arrived[warp] == 0 && b->done > 0)
		for (int i = 0; i < 32; i++)
			if (first[i].state == DSOCR_EMU_DONE)
				dsocr_emu_die(r->file, r->line, "%s after lane %d left", op_names[r->op], i);
	self->request = r;
	self->state = DSOCR_EMU_IN_WARP;
	if (++b->arrived[warp] < 32)
	{
		give_way(self);
		return;
	}
	for (int i = 0; i < 32; i++)
	{
		lanes[i] = first[i].request;
		check_same_call(lanes[i], i, lanes[0], 0);
	}
	dsocr_emu_warp_perform(lanes);
	b->arrived[warp] = 0;
	for (int i = 0; i < 32; i++)
		if (&first[i] != self)
			make_ready(&first[i]);
	self->state = DSOCR_EMU_READY;
	if (r->op == DSOCR_EMU_SYNCWARP)
		dsocr_emu_race_warp(warp);
}
