/*-------------------------------------------------------------------------
 *
 * inputs_pdf_bad.c
 *		PDF files that are damaged, contradictory or hostile.
 *
 *-------------------------------------------------------------------------
 */
#include "inputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../reference/make_image.h"
#include "../reference/pdf_maker.h"
#include "inputs_pdf.h"

enum
{
	BAD_XREF,
	NO_EOF,
	NO_XREF,
	CUT_IN_PAGE,
	HEADER_ONLY,
	JUNK_BEFORE,
	BAD_STREAM,
	JUNK_BEHIND,
	NOT_A_VERSION,
	BAD_LENGTH,
	NO_ENDOBJ,
	CARRIAGE_RETURNS,
	NO_MEDIA_BOX
};

static char *
find(DsocrBuffer *b, const char *what)
{
	char *at = memmem(b->data, b->len, what, strlen(what));

	if (at == NULL)
		in_fail(what);
	return at;
}

static void
cut_at(DsocrBuffer *b, const char *what)
{
	b->len = (size_t) (find(b, what) - b->data);
}

static void
make_damaged(DsocrBuffer *out, int how)
{
	DsocrBuffer good = {0};

	in_pdf_pages(&good, 1, "", IN_QUARTERS);
	if (how == JUNK_BEFORE)
		mk_bytes(out, "X-Mail: from a mailbox\r\n\r\n", 26);
	mk_bytes(out, good.data, good.len);
	dsocr_buffer_free(&good);
	switch (how)
	{
		case BAD_XREF:
			/* all entries point to the header */
			for (char *at = find(out, "00000 n"); at != NULL;
				 at = memmem(at + 1, (size_t) (out->data + out->len - at - 1), "00000 n", 7))
				memset(at - 11, '0', 10);
			break;
		case NO_EOF:
			cut_at(out, "startxref");
			break;
		case NO_XREF:
			cut_at(out, "xref\n0");
			break;
		case CUT_IN_PAGE:
			cut_at(out, "/Contents");
			break;
		case HEADER_ONLY:
			out->len = 9;
			break;
		case BAD_STREAM:
			memset(find(out, "1 0 0 rg"), '(', 20);
			break;
		case JUNK_BEHIND:
			mk_bytes(out, "\r\n--boundary--\r\n", 16);
			break;
		case NOT_A_VERSION:
			memcpy(find(out, "%PDF-1.7"), "%PDF-9.9", 8);
			break;
		case BAD_LENGTH:
			memcpy(find(out, "/Length "), "/Length 9", 9);
			break;
		case NO_ENDOBJ:
			memcpy(find(out, "endobj"), "      ", 6);
			break;
		case CARRIAGE_RETURNS:
			/* as a transfer in text mode leaves it */
			for (size_t i = 0; i < out->len; i++)
				if (out->data[i] == '\n')
					out->data[i] = '\r';
			break;
		case NO_MEDIA_BOX:
			memcpy(find(out, "/MediaBox"), "/XediaBox", 9);
			break;
	}
}

enum
{
	NO_PAGES,
	MILLION,
	MANY,
	FEW,
	TREE_LOOP,
	HUGE_PAGE,
	NO_AREA,
	ENDLESS_SIDE,
	NO_CATALOG
};

/* A document whose page tree is what counts. */
static void
make_tree(DsocrBuffer *out, int how)
{
	static const char *const trees[] = {[NO_PAGES] = "/Count 0/Kids[]",
										[MILLION] = "/Count 1000000/Kids[3 0 R]",
										[MANY] = "/Count 5000/Kids[3 0 R]",
										[FEW] = "/Count 3/Kids[3 0 R]",
										[TREE_LOOP] = "/Count 2/Kids[3 0 R 2 0 R]",
										[HUGE_PAGE] = "/Count 1/Kids[3 0 R]",
										[NO_AREA] = "/Count 1/Kids[3 0 R]",
										[ENDLESS_SIDE] = "/Count 1/Kids[3 0 R]",
										[NO_CATALOG] = "/Count 1/Kids[3 0 R]"};
	static const char *const boxes[] = {
		[NO_PAGES] = "0 0 64 48", [MILLION] = "0 0 64 48",		 [MANY] = "0 0 64 48",
		[FEW] = "0 0 64 48",	  [TREE_LOOP] = "0 0 64 48",	 [HUGE_PAGE] = "0 0 14400 14400",
		[NO_AREA] = "0 0 0 0",	  [ENDLESS_SIDE] = "0 0 1e38 1", [NO_CATALOG] = "0 0 64 48"};
	PdfMaker *m = calloc(1, sizeof(*m));

	if (m == NULL)
		in_fail("no memory");
	dsocr_pdf_object(m, how == NO_CATALOG ? "null" : "<</Type/Catalog/Pages 2 0 R>>");
	dsocr_pdf_object(m, "<</Type/Pages%s>>", trees[how]);
	dsocr_pdf_object(m, "<</Type/Page/Parent 2 0 R/MediaBox[%s]/Contents 4 0 R/Resources<<>>>>",
					 boxes[how]);
	dsocr_pdf_stream(m, "", IN_QUARTERS, strlen(IN_QUARTERS));
	dsocr_pdf_end(m);
	*out = m->out;
	free(m);
}

/* Forms that draw the next one, the last drawing the quarters, or the first again. */
static void
make_forms(DsocrBuffer *out, int n)
{
	PdfMaker *m = calloc(1, sizeof(*m));
	bool endless = n < 0;

	if (m == NULL)
		in_fail("no memory");
	n = abs(n);
	dsocr_pdf_object(m, "<</Type/Catalog/Pages 2 0 R>>");
	dsocr_pdf_object(m, "<</Type/Pages/Count 1/Kids[3 0 R]>>");
	dsocr_pdf_object(m, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 64 48]/Contents 4 0 R"
						"/Resources<</XObject<</F 5 0 R>>>>>>");
	dsocr_pdf_stream(m, "", IN_QUARTERS " /F Do", strlen(IN_QUARTERS " /F Do"));
	for (int i = 0; i < n; i++)
	{
		bool last = i == n - 1 && !endless;
		char entries[128];

		snprintf(entries, sizeof(entries),
				 "/Type/XObject/Subtype/Form/BBox[0 0 64 48]/Resources<</XObject<</F %d 0 R>>>>",
				 i == n - 1 ? 5 : 6 + i);
		if (last)
			dsocr_pdf_stream(m, entries, IN_QUARTERS, strlen(IN_QUARTERS));
		else
			dsocr_pdf_stream(m, entries, "/F Do", 5);
	}
	dsocr_pdf_end(m);
	*out = m->out;
	free(m);
}

/* 40 MB of blanks in 40 kB, then the picture. */
static void
make_bomb(DsocrBuffer *out, int megabytes)
{
	PdfMaker *m = calloc(1, sizeof(*m));
	DsocrBuffer content = {0};
	DsocrBuffer packed = {0};
	char *blanks = malloc(1 << 20);

	if (m == NULL || blanks == NULL)
		in_fail("no memory");
	memset(blanks, ' ', 1 << 20);
	for (int i = 0; i < megabytes; i++)
		mk_bytes(&content, blanks, 1 << 20);
	mk_bytes(&content, IN_QUARTERS, strlen(IN_QUARTERS));
	mk_deflate(&packed, content.data, content.len);
	dsocr_pdf_object(m, "<</Type/Catalog/Pages 2 0 R>>");
	dsocr_pdf_object(m, "<</Type/Pages/Count 1/Kids[3 0 R]>>");
	dsocr_pdf_object(m, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 64 48]/Contents 4 0 R"
						"/Resources<<>>>>");
	dsocr_pdf_stream(m, "/Filter/FlateDecode", packed.data, packed.len);
	dsocr_pdf_end(m);
	*out = m->out;
	dsocr_buffer_free(&content);
	dsocr_buffer_free(&packed);
	free(blanks);
	free(m);
}

const Input in_pdf_bad[] = {
	{"bad-xref.pdf", "all offsets are wrong", IN_COLOUR, make_damaged, BAD_XREF},
	{"no-eof.pdf", "ends before startxref", IN_COLOUR, make_damaged, NO_EOF},
	{"no-xref.pdf", "ends before its cross references", IN_REFUSED, make_damaged, NO_XREF},
	{"cut.pdf", "ends within its page", IN_REFUSED, make_damaged, CUT_IN_PAGE},
	{"header.pdf", "a header alone", IN_REFUSED, make_damaged, HEADER_ONLY},
	{"junk-before.pdf", "lines of a mail before the header", IN_COLOUR, make_damaged, JUNK_BEFORE},
	{"junk-behind.pdf", "lines of a mail behind its end", IN_COLOUR, make_damaged, JUNK_BEHIND},
	{"version-9.pdf", "version 9.9", IN_COLOUR, make_damaged, NOT_A_VERSION},
	{"bad-length.pdf", "a wrong length of the content", IN_COLOUR, make_damaged, BAD_LENGTH},
	{"no-endobj.pdf", "the end of an object missing", IN_COLOUR, make_damaged, NO_ENDOBJ},
	{"returns.pdf", "all line feeds became carriage returns", IN_COLOUR, make_damaged,
	 CARRIAGE_RETURNS},
	{"bad-content.pdf", "unfinished strings in the content", "64 x 48: white white / white white",
	 make_damaged, BAD_STREAM},
	{"no-media-box.pdf", "a page without size, shown as a letter", "612 x 792", make_damaged,
	 NO_MEDIA_BOX},
	{"no-catalog.pdf", "no catalog", IN_REFUSED, make_tree, NO_CATALOG},
	{"zero-pages.pdf", "no pages", IN_REFUSED, make_tree, NO_PAGES},
	{"million-pages.pdf", "claims 1000000 pages, has one", IN_REFUSED, make_tree, MILLION},
	{"5000-pages.pdf", "claims 5000 pages, has one", IN_REFUSED, make_tree, MANY},
	{"3-pages.pdf", "claims 3 pages, has one", "3 pages: " IN_COLOUR, make_tree, FEW},
	{"tree-loop.pdf", "its page tree contains itself", "2 pages: " IN_COLOUR, make_tree, TREE_LOOP},
	{"14400-points.pdf", "a page of 14400 x 14400 points", "7064 x 7064", make_tree, HUGE_PAGE},
	{"no-area.pdf", "a page of 0 x 0 points, shown as a letter", "612 x 792", make_tree, NO_AREA},
	{"endless.pdf", "a page of 1e38 points, shown as a letter", "612 x 792", make_tree,
	 ENDLESS_SIDE},
	{"deep-forms.pdf", "3000 forms, each within another", IN_COLOUR, make_forms, 3000},
	{"endless-forms.pdf", "two forms that draw each other", IN_COLOUR, make_forms, -2},
	{"bomb.pdf", "40 MB of blanks in 40 kB", IN_COLOUR, make_bomb, 40},
	{0}};
