/*-------------------------------------------------------------------------
 *
 * test_pages_hostile.c
 *		The page server's renderers: what they cost and how they die.
 *
 * Documents here want time, memory or the memory of others.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../reference/pages_peer.h"
#include "../reference/pdf_maker.h"

#define TEXT "BT /F 24 Tf 20 40 Td (Page %d) Tj ET"
#define MAX_CHILDREN 64
#define MB ((uint64_t) 1 << 20)

/* Is the process gone, or no more than a name? */
static bool
is_gone(int pid)
{
	char path[64];
	char state = 'X';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (f == NULL)
		return true;
	if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 'X';
	fclose(f);
	return state == 'X' || state == 'Z';
}

/* Renderers of a page server that run. */
static int
children(const Peer *p, int pids[MAX_CHILDREN])
{
	char path[64];
	int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int) p->pid, (int) p->pid);
	f = fopen(path, "r");
	assert_non_null(f);
	while (n < MAX_CHILDREN && fscanf(f, "%d", &pids[n]) == 1)
	{
		if (!is_gone(pids[n]))
			n++;
	}
	fclose(f);
	return n;
}

/* Wait until there are so many. */
static void
expect_children(const Peer *p, int expected)
{
	int pids[MAX_CHILDREN];

	for (int i = 0; i < 500; i++)
	{
		if (children(p, pids) == expected)
			return;
		usleep(10000);
	}
	assert_int_equal(children(p, pids), expected);
}

/* A line of /proc/PID/status in bytes; 0 when the process is gone. */
static uint64_t
memory_of(int pid, const char *name)
{
	char path[64];
	char line[256];
	uint64_t kb = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
	{
		if (strncmp(line, name, strlen(name)) == 0)
			kb = strtoull(line + strlen(name) + 1, NULL, 10);
	}
	if (f != NULL)
		fclose(f);
	return kb * 1024;
}

static int
open_pdf(Peer *p, uint64_t id, DsocrBuffer pdf)
{
	int pages = dsocr_pages_open(p, id, pdf.data, pdf.len);

	dsocr_buffer_free(&pdf);
	return pages;
}

/*
 * Two pages: the first draws what costs the caller's content and resources,
 * the second is harmless.
 */
static DsocrBuffer
two_pages(PdfMaker *m, const char *resources, const char *content)
{
	DsocrBuffer out;
	int first = m->n;

	dsocr_pdf_object(m, "<</Type/Page/Parent 2 0 R/Contents %d 0 R/Resources<<%s>>>>", first + 2,
					 resources);
	dsocr_pdf_stream(m, "", content, strlen(content));
	dsocr_pdf_object(m, "<</Type/Page/Parent 2 0 R/Contents %d 0 R>>", first + 4);
	dsocr_pdf_stream(m, "", "0 0 20 20 re f", 14);
	dsocr_pdf_end(m);
	out = m->out;
	free(m);
	return out;
}

/* Catalog and page tree of two pages that follow n more objects. */
static PdfMaker *
begin_two_pages(int n)
{
	PdfMaker *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	dsocr_pdf_object(m, "<</Type/Catalog/Pages 2 0 R>>");
	dsocr_pdf_object(m, "<</Type/Pages/Count 2/MediaBox[0 0 200 100]/Kids[%d 0 R %d 0 R]>>", n + 3,
					 n + 5);
	return m;
}

/* Forms within forms, each drawn ten times: a page that never ends. */
static DsocrBuffer
endless(void)
{
	enum
	{
		DEPTH = 12
	};
	PdfMaker *m = begin_two_pages(DEPTH);
	static const char calls[] = "/X Do /X Do /X Do /X Do /X Do /X Do /X Do /X Do /X Do /X Do";

	for (int i = 0; i < DEPTH; i++)
	{
		char entries[256];

		snprintf(entries, sizeof(entries),
				 "/Type/XObject/Subtype/Form/BBox[0 0 200 100]/Resources<</XObject<</X %d 0 R>>>>",
				 i + 4);
		dsocr_pdf_stream(m, entries, i < DEPTH - 1 ? calls : "0 0 9 9 re f",
						 strlen(i < DEPTH - 1 ? calls : "0 0 9 9 re f"));
	}
	return two_pages(m, "/XObject<</X 3 0 R>>", "/X Do");
}

/* A form that draws itself. */
static DsocrBuffer
recursive(void)
{
	PdfMaker *m = begin_two_pages(1);

	dsocr_pdf_stream(m,
					 "/Type/XObject/Subtype/Form/BBox[0 0 200 100]"
					 "/Resources<</XObject<</X 3 0 R>>>>",
					 "/X Do /X Do", 11);
	return two_pages(m, "/XObject<</X 3 0 R>>", "/X Do");
}

/* An image of so many pixels a side, of which the file holds none. */
static DsocrBuffer
large_image(int side)
{
	PdfMaker *m = begin_two_pages(1);
	char entries[256];

	snprintf(entries, sizeof(entries),
			 "/Type/XObject/Subtype/Image/Width %d/Height %d/BitsPerComponent 8"
			 "/ColorSpace/DeviceRGB",
			 side, side);
	dsocr_pdf_stream(m, entries, "abc", 3);
	return two_pages(m, "/XObject<</X 3 0 R>>", "200 0 0 100 0 0 cm /X Do");
}

static void
expect_page(Peer *p, uint64_t id, uint64_t document, int page)
{
	Frame f = dsocr_pages_get(p, id, document, page, DSOCR_PAGE_RAW);

	assert_string_equal(f.status.message, "");
	assert_int_equal(f.result.width, 400);
	dsocr_result_free(&f.result);
}

/* ---- time ---- */

static void
test_timeout(void **state)
{
	static const char *const options[] = {"--page-timeout", "700", NULL};
	Peer p = dsocr_pages_start(options);
	int64_t begin;
	Frame f;

	assert_int_equal(open_pdf(&p, 1, endless()), 2);
	begin = dsocr_now_us();
	f = dsocr_pages_get(&p, 2, 1, 1, DSOCR_PAGE_RAW);
	assert_in_range(dsocr_now_us() - begin, 600000, 5000000);
	assert_int_equal(f.status.code, DSOCR_E_IMAGE);
	assert_string_equal(f.status.message, "page 1: the renderer was stopped after 0.7 s");
	/* the other page is as good as before */
	expect_page(&p, 3, 1, 2);
	dsocr_peer_finish(&p);
}

static void
test_recursive(void **state)
{
	static const char *const options[] = {"--page-timeout", "3000", NULL};
	Peer p = dsocr_pages_start(options);
	Frame f;

	assert_int_equal(open_pdf(&p, 1, recursive()), 2);
	/* shown or given up, but answered */
	f = dsocr_pages_get(&p, 2, 1, 1, DSOCR_PAGE_RAW);
	assert_true(f.status.code == DSOCR_OK || f.status.code == DSOCR_E_IMAGE);
	dsocr_result_free(&f.result);
	expect_page(&p, 3, 1, 2);
	dsocr_peer_finish(&p);
}

/* ---- memory ---- */

static void
test_memory(void **state)
{
	static const char *const options[] = {"--memory-limit", "67108864", "--per-document", "1",
										  NULL};
	static const int sides[] = {3000, 9000, 30000, 200000};
	Peer p = dsocr_pages_start(options);

	for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++)
	{
		uint64_t id = 10 * (i + 1);
		int pids[MAX_CHILDREN];
		uint64_t highest = 0;
		Frame f;

		assert_int_equal(open_pdf(&p, id, large_image(sides[i])), 2);
		dsocr_pages_ask(&p, id + 1, id, 1, DSOCR_PAGE_RAW);
		f = dsocr_peer_next(&p, true);
		assert_true(f.status.code == DSOCR_OK || f.status.code == DSOCR_E_IMAGE ||
					f.status.code == DSOCR_E_MEMORY);
		for (int k = 0, n = children(&p, pids); k < n; k++)
		{
			uint64_t used = memory_of(pids[k], "VmHWM:");

			highest = used > highest ? used : highest;
		}
		assert_true(highest < 64 * MB + 64 * MB);
		dsocr_result_free(&f.result);
		expect_page(&p, id + 2, id, 2);
		dsocr_pages_close(&p, id);
	}
	assert_true(memory_of(p.pid, "VmHWM:") < 128 * MB);
	dsocr_peer_finish(&p);
}

/* A page of 50 megapixels does not fit into the limit: that page fails, and says why. */
static void
test_no_memory(void **state)
{
	static const char *const options[] = {"--memory-limit", "67108864", NULL};
	DsocrBuffer pdf = dsocr_pdf_pages(1, 14400, 14400, "", TEXT);
	Peer p = dsocr_pages_start(options);
	DsocrRequest r = {.id = 1, .dpi = 300, .image = (uint8_t *) pdf.data, .image_len = pdf.len};
	Frame f;

	assert_int_equal(dsocr_pages_open_as(&p, &r, NULL), 1);
	f = dsocr_pages_get(&p, 2, 1, 1, DSOCR_PAGE_RAW);
	assert_int_equal(f.status.code, DSOCR_E_MEMORY);
	assert_non_null(strstr(f.status.message, "page 1: out of memory"));
	dsocr_buffer_free(&pdf);
	dsocr_peer_finish(&p);
}

/* ---- the end of renderers ---- */

static void
test_crash(void **state)
{
	static const int signals[] = {SIGSEGV, SIGKILL, SIGABRT};
	static const char *const options[] = {"--per-document", "1", NULL};
	Peer p = dsocr_pages_start(options);

	assert_int_equal(open_pdf(&p, 1, endless()), 2);
	for (int i = 0; i < 3; i++)
	{
		int pids[MAX_CHILDREN];
		Frame f;

		dsocr_pages_ask(&p, 10, 1, 1, DSOCR_PAGE_RAW);
		dsocr_pages_ask(&p, 11, 1, 2, DSOCR_PAGE_RAW);
		usleep(200000);
		assert_int_equal(children(&p, pids), 1);
		kill(pids[0], signals[i]);
		f = dsocr_peer_next(&p, true);
		assert_int_equal(f.header.id, 10);
		assert_int_equal(f.status.code, DSOCR_E_IMAGE);
		assert_string_equal(f.status.message, i == 0   ? "page 1: the renderer crashed (signal 11)"
											  : i == 1 ? "page 1: the renderer was killed"
													   : "page 1: the renderer crashed (signal 6)");
		f = dsocr_peer_next(&p, true);
		assert_int_equal(f.header.id, 11);
		assert_int_equal(f.status.code, DSOCR_OK);
		dsocr_result_free(&f.result);
	}
	dsocr_peer_finish(&p);
}

static void
test_cancel(void **state)
{
	static const char *const options[] = {"--per-document", "1", NULL};
	Peer p = dsocr_pages_start(options);
	Frame f;

	assert_int_equal(open_pdf(&p, 1, endless()), 2);
	expect_children(&p, 1);
	dsocr_pages_ask(&p, 10, 1, 1, DSOCR_PAGE_RAW); /* runs */
	dsocr_pages_ask(&p, 11, 1, 2, DSOCR_PAGE_RAW); /* waits */
	dsocr_pages_ask(&p, 12, 1, 2, DSOCR_PAGE_RAW);
	dsocr_pages_ask(&p, 13, 1, 2, DSOCR_PAGE_RAW);
	usleep(100000);
	dsocr_pages_close(&p, 13);
	dsocr_pages_close(&p, 10);
	/* with the document go its pages and its renderer */
	dsocr_peer_say(&p, DSOCR_FRAME_CANCEL, 1);
	for (int i = 0; i < 2; i++)
	{
		f = dsocr_peer_next(&p, true);
		assert_int_equal(f.header.id, 11 + i);
		assert_int_equal(f.status.code, DSOCR_E_IO);
	}
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.header.id, 1);
	assert_int_equal(f.status.code, DSOCR_E_CANCELLED);
	expect_children(&p, 0);
	f = dsocr_pages_get(&p, 14, 1, 1, DSOCR_PAGE_RAW);
	assert_int_equal(f.status.code, DSOCR_E_IO);
	assert_string_equal(f.status.message, "document is not open");
	/* what is not there cannot be cancelled, and a READ is not for this program */
	dsocr_peer_say(&p, DSOCR_FRAME_CANCEL, 99);
	dsocr_peer_ask(&p, 15, "x", 1, 0);
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.header.id, 15);
	assert_int_equal(f.status.code, DSOCR_E_ARGUMENT);
	dsocr_peer_finish(&p);
}

/* Pages of many documents, more than there are processes. */
static void
test_many_documents(void **state)
{
	static const char *const options[] = {"--processes", "3", "--per-document", "2", NULL};
	enum
	{
		DOCUMENTS = 12,
		PAGES = 5
	};
	bool seen[DOCUMENTS * PAGES] = {false};
	Peer p = dsocr_pages_start(options);
	int pids[MAX_CHILDREN];

	for (int i = 0; i < DOCUMENTS; i++)
		assert_int_equal(open_pdf(&p, (uint64_t) i + 1, dsocr_pdf_pages(PAGES, 200, 100, "", TEXT)),
						 PAGES);
	for (int i = 0; i < DOCUMENTS * PAGES; i++)
		dsocr_pages_ask(&p, 100 + (uint64_t) i, (uint64_t) (i / PAGES) + 1, i % PAGES + 1,
						DSOCR_PAGE_RAW);
	for (int i = 0; i < DOCUMENTS * PAGES; i++)
	{
		Frame f = dsocr_peer_next(&p, true);
		int n = children(&p, pids);

		assert_string_equal(f.status.message, "");
		assert_in_range(f.header.id, 100, 100 + DOCUMENTS * PAGES - 1);
		assert_false(seen[f.header.id - 100]);
		seen[f.header.id - 100] = true;
		assert_int_equal(f.result.width, 400);
		dsocr_result_free(&f.result);
		/* one that was killed a moment ago may not have noticed yet */
		for (int k = 0; k < 5000 && n > 3; k++)
		{
			usleep(1000);
			n = children(&p, pids);
		}
		assert_in_range(n, 0, 3);
	}
	dsocr_peer_finish(&p);
}

static void
test_end(void **state)
{
	for (int how = 0; how < 3; how++)
	{
		Peer p = dsocr_pages_start(NULL);
		int pids[MAX_CHILDREN];
		int waited = 0;

		assert_int_equal(open_pdf(&p, 1, endless()), 2);
		dsocr_pages_ask(&p, 2, 1, 1, DSOCR_PAGE_RAW);
		usleep(100000);
		assert_int_equal(children(&p, pids), 1);
		if (how == 0)
			dsocr_peer_finish(&p);
		else if (how == 1)
		{
			close(p.fd);
			p.fd = -1;
			dsocr_peer_expect_exit(&p, 5, 0);
		}
		else
		{
			/* killed, it takes its renderers along */
			kill(p.pid, SIGKILL);
			dsocr_peer_wait(p.pid, 5);
			close(p.fd);
		}
		while (!is_gone(pids[0]) && waited++ < 200)
			usleep(10000);
		assert_true(is_gone(pids[0]));
	}
}

/* ---- other documents ---- */

/* Does the memory of a process hold these bytes?  -1 when it cannot be read. */
static int
holds(int pid, const char *secret)
{
	static char chunk[1 << 20];
	char path[64];
	char line[512];
	int found = 0;
	FILE *maps;
	int mem;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	mem = open(path, O_RDONLY);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "r");
	while (mem >= 0 && maps != NULL && fgets(line, sizeof(line), maps) != NULL)
	{
		unsigned long from;
		unsigned long to;

		if (sscanf(line, "%lx-%lx r", &from, &to) != 2)
			continue;
		for (unsigned long at = from; at < to; at += sizeof(chunk) - 64)
		{
			ssize_t n =
				pread(mem, chunk, to - at < sizeof(chunk) ? to - at : sizeof(chunk), (off_t) at);

			if (n > 0 && memmem(chunk, (size_t) n, secret, strlen(secret)) != NULL)
				found++;
		}
	}
	if (maps != NULL)
		fclose(maps);
	if (mem < 0)
		return -1;
	close(mem);
	return found;
}

static void
test_secrets(void **state)
{
	static const char *const options[] = {"--no-sandbox", NULL};
	char secret[] = "Xhe key is under the mat";
	char content[256];
	Peer p = dsocr_pages_start(options);
	int pids[MAX_CHILDREN];
	DsocrBuffer pdf;
	DsocrRequest r = {.id = 1, .prompt = "Xpen sesame, said he"};
	char password[] = "Xpen sesame, said he";

	secret[0] = 'T';
	snprintf(content, sizeof(content), "BT /F 24 Tf 20 40 Td (%s, %%d) Tj ET", secret);
	pdf = dsocr_pdf_pages(3000, 200, 100, "", content);
	r.image = (uint8_t *) pdf.data;
	r.image_len = pdf.len;
	assert_int_equal(dsocr_pages_open_as(&p, &r, NULL), 3000);
	dsocr_buffer_free(&pdf);
	assert_int_equal(open_pdf(&p, 2, dsocr_pdf_pages(3, 200, 100, "", content)), 3);
	expect_page(&p, 3, 1, 2);
	expect_page(&p, 4, 2, 2);
	/* their own renderers have it, which shows that the search finds it */
	expect_children(&p, 2);
	assert_int_equal(children(&p, pids), 2);
	if (holds(pids[0], secret) < 0)
		skip();
	assert_true(holds(pids[0], secret) > 0);
	assert_true(holds(p.pid, secret) > 0);
	/* another document's does not */
	assert_int_equal(open_pdf(&p, 5, dsocr_pdf_pages(3, 200, 100, "", TEXT)), 3);
	assert_int_equal(children(&p, pids), 3);
	assert_int_equal(holds(pids[2], secret), 0);
	assert_int_equal(holds(pids[2], password), 0);
	dsocr_peer_finish(&p);
}

/* A renderer that starts while another document is still on its way. */
static void
test_secrets_in_transit(void **state)
{
	static const char *const options[] = {"--no-sandbox", "--per-document", "1", NULL};
	static const char secret[] = "the whole of the secret agenda";
	Peer p = dsocr_pages_start(options);
	DsocrRequest r = {.id = 5, .kind = DSOCR_DOCUMENT, .image_len = 4 << 20};
	char *image = malloc(r.image_len);
	DsocrBuffer head = {0};
	int pids[MAX_CHILDREN];
	Frame f;

	assert_non_null(image);
	for (size_t i = 0; i < r.image_len; i++)
		image[i] = secret[i % sizeof(secret)];
	assert_int_equal(open_pdf(&p, 1, endless()), 2);
	dsocr_pages_ask(&p, 10, 1, 1, DSOCR_PAGE_RAW);
	dsocr_pages_ask(&p, 11, 1, 2, DSOCR_PAGE_RAW);
	r.image = (uint8_t *) image;
	assert_true(dsocr_frame_request_head(&head, &r, NULL));
	dsocr_peer_send(&p, head.data, head.len);
	dsocr_peer_send(&p, image, r.image_len / 2);
	usleep(200000);
	assert_int_equal(children(&p, pids), 1);
	kill(pids[0], SIGKILL);
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.header.id, 10);
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.header.id, 11);
	assert_int_equal(f.status.code, DSOCR_OK);
	dsocr_result_free(&f.result);
	assert_int_equal(children(&p, pids), 1);
	if (holds(pids[0], secret) < 0)
		skip();
	assert_int_equal(holds(pids[0], secret), 0);
	assert_true(holds(p.pid, secret) > 0);
	/* it is none, which its own renderer says */
	dsocr_peer_send(&p, image + r.image_len / 2, r.image_len - r.image_len / 2);
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.header.id, 5);
	assert_int_equal(f.status.code, DSOCR_E_IMAGE);
	dsocr_buffer_free(&head);
	free(image);
	dsocr_peer_finish(&p);
}

/* ---- long documents ---- */

static void
test_long(void **state)
{
	Peer p = dsocr_pages_start(NULL);
	uint64_t highest = 0;
	int next = 1;

	assert_int_equal(open_pdf(&p, 1, dsocr_pdf_pages(400, 200, 100, "", TEXT)), 400);
	for (; next <= 8; next++)
		dsocr_pages_ask(&p, 10 + (uint64_t) next, 1, next, DSOCR_PAGE_RAW);
	for (int i = 1; i <= 400; i++, next++)
	{
		Frame f = dsocr_peer_next(&p, true);
		int pids[MAX_CHILDREN];

		assert_string_equal(f.status.message, "");
		dsocr_result_free(&f.result);
		if (next <= 400)
			dsocr_pages_ask(&p, 10 + (uint64_t) next, 1, next, DSOCR_PAGE_RAW);
		for (int k = 0, n = i % 50 == 0 ? children(&p, pids) : 0; k < n; k++)
		{
			uint64_t used = memory_of(pids[k], "RssAnon:");

			highest = used > highest ? used : highest;
		}
	}
	assert_true(highest > 0 && highest < 64 * MB);
	assert_true(memory_of(p.pid, "VmHWM:") < 96 * MB);
	dsocr_peer_finish(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timeout),		   cmocka_unit_test(test_recursive),
		cmocka_unit_test(test_memory),		   cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_crash),		   cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_many_documents), cmocka_unit_test(test_end),
		cmocka_unit_test(test_secrets),		   cmocka_unit_test(test_secrets_in_transit),
		cmocka_unit_test(test_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
