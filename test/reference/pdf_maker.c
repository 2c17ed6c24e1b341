/*-------------------------------------------------------------------------
 *
 * pdf_maker.c
 *		Small PDFs for tests, well formed or as hostile as the caller likes.
 *
 *-------------------------------------------------------------------------
 */
#include "pdf_maker.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
check(bool ok)
{
	if (!ok)
		abort();
}

static void
begin(PdfMaker *m)
{
	if (m->n == 0)
		check(dsocr_buffer_printf(&m->out, NULL, "%%PDF-1.7\n"));
	check(m->n < PDF_MAX_OBJECTS);
	m->offsets[++m->n] = m->out.len;
	check(dsocr_buffer_printf(&m->out, NULL, "%d 0 obj\n", m->n));
}

void
dsocr_pdf_object(PdfMaker *m, const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	check(n >= 0);
	begin(m);
	check(dsocr_buffer_printf(&m->out, NULL, "%s\nendobj\n", text));
	free(text);
}

void
dsocr_pdf_stream(PdfMaker *m, const char *entries, const void *bytes, size_t len)
{
	begin(m);
	check(dsocr_buffer_printf(&m->out, NULL, "<<%s/Length %zu>>stream\n", entries, len));
	check(dsocr_buffer_append(&m->out, bytes, len, NULL));
	check(dsocr_buffer_printf(&m->out, NULL, "\nendstream\nendobj\n"));
}

void
dsocr_pdf_end(PdfMaker *m)
{
	size_t at = m->out.len;

	check(dsocr_buffer_printf(&m->out, NULL, "xref\n0 %d\n0000000000 65535 f \n", m->n + 1));
	for (int i = 1; i <= m->n; i++)
		check(dsocr_buffer_printf(&m->out, NULL, "%010zu 00000 n \n", m->offsets[i]));
	check(dsocr_buffer_printf(&m->out, NULL,
							  "trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%zu\n%%%%EOF\n",
							  m->n + 1, at));
}

DsocrBuffer
dsocr_pdf_pages(int n, int width, int height, const char *entries, const char *content)
{
	PdfMaker *m = calloc(1, sizeof(*m));
	DsocrBuffer kids = {0};
	DsocrBuffer out;

	check(m != NULL);
	for (int i = 0; i < n; i++)
		check(dsocr_buffer_printf(&kids, NULL, "%d 0 R ", 4 + 2 * i));
	dsocr_pdf_object(m, "<</Type/Catalog/Pages 2 0 R>>");
	dsocr_pdf_object(m, "<</Type/Pages/Count %d/MediaBox[0 0 %d %d]/Kids[%s]>>", n, width, height,
					 kids.data);
	dsocr_pdf_object(m, "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>");
	for (int i = 0; i < n; i++)
	{
		DsocrBuffer drawn = {0};

		check(dsocr_buffer_printf(&drawn, NULL, content, i + 1));
		dsocr_pdf_object(m,
						 "<</Type/Page/Parent 2 0 R/Contents %d 0 R/Resources<</Font<</F 3 0 "
						 "R>>>>%s>>",
						 5 + 2 * i, entries);
		dsocr_pdf_stream(m, "", drawn.data, drawn.len);
		dsocr_buffer_free(&drawn);
	}
	dsocr_pdf_end(m);
	dsocr_buffer_free(&kids);
	out = m->out;
	free(m);
	return out;
}
