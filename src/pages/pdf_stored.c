/*-------------------------------------------------------------------------
 *
 * pdf_stored.c
 *		The JPEG that is the whole of a PDF's page.
 *
 * poppler does not give it away, but hands JPEGs as they are to surfaces that
 * can keep them.  So the page is drawn once more, into a PDF in memory, whose
 * objects are written by cairo one after the other and easy to walk over.
 * What comes out is compared with the page by the caller, so that a mistake
 * here, or a trick, can only cost the original bytes.
 *
 *-------------------------------------------------------------------------
 */
#include "pdf_stored.h"

#include <cairo-pdf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DRAWN ((size_t) 128 << 20) /* bytes of the PDF in memory */
#define MAX_DICTIONARY 4096

static cairo_status_t
on_write(void *arg, const unsigned char *data, unsigned int n)
{
	DsocrBuffer *out = arg;

	if (out->len > MAX_DRAWN || !dsocr_buffer_append(out, data, n, NULL))
		return CAIRO_STATUS_WRITE_ERROR;
	return CAIRO_STATUS_SUCCESS;
}

static bool
draw(PopplerPage *page, double width, double height, DsocrBuffer *out)
{
	cairo_surface_t *surface = cairo_pdf_surface_create_for_stream(on_write, out, width, height);
	cairo_t *cairo = cairo_create(surface);
	bool ok;

	/* as for a printer, so that images keep their resolution */
	poppler_page_render_for_printing(page, cairo);
	ok = cairo_status(cairo) == CAIRO_STATUS_SUCCESS;
	cairo_destroy(cairo);
	cairo_surface_finish(surface);
	ok = ok && cairo_surface_status(surface) == CAIRO_STATUS_SUCCESS;
	cairo_surface_destroy(surface);
	return ok;
}

/* A number behind a key of a dictionary, -1 without one. */
static long
number_of(const char *dictionary, const char *key)
{
	const char *at = strstr(dictionary, key);

	return at == NULL ? -1 : strtol(at + strlen(key), NULL, 10);
}

/* The value of the object with a number, which is a number itself; -1 when it is not there. */
static long
number_object(const DsocrBuffer *b, size_t from, long object)
{
	char head[48];
	int n = snprintf(head, sizeof(head), "\n%ld 0 obj\n", object);
	const char *at = memmem(b->data + from, b->len - from, head, (size_t) n);

	return at == NULL ? -1 : strtol(at + n, NULL, 10);
}

/* Bytes of the stream behind a dictionary: the number itself, or an object further on. */
static long
stream_length(const DsocrBuffer *b, const char *dictionary, size_t stream)
{
	const char *at = strstr(dictionary, "/Length ");
	long length = number_of(dictionary, "/Length ");
	char *end;

	if (at == NULL || length < 0)
		return -1;
	(void) strtol(at + 8, &end, 10);
	if (strncmp(end, " 0 R", 4) != 0)
		return length;
	/* it is written right behind the stream; one inside of it is not meant */
	for (size_t from = stream; from < b->len;)
	{
		long value = number_object(b, from, length);
		const char *found;

		if (value < 0)
			return -1;
		if ((size_t) value <= b->len - stream && b->len - stream - (size_t) value >= 10 &&
			memcmp(b->data + stream + value, "\nendstream", 10) == 0)
			return value;
		found = memmem(b->data + from, b->len - from, " 0 obj\n", 7);
		if (found == NULL)
			return -1;
		from = (size_t) (found - b->data) + 7;
	}
	return -1;
}

/* The beginning of the last object before a place; NULL when there is none. */
static const char *
last_object(const char *from, const char *to)
{
	static const char mark[] = " 0 obj\n";
	const char *last = NULL;

	for (const char *at = from; at != NULL && at < to;)
	{
		at = memmem(at, (size_t) (to - at), mark, sizeof(mark) - 1);
		if (at != NULL)
			last = at += sizeof(mark) - 1;
	}
	return last;
}

/*
 * Walk over the streams: one image, which is a JPEG, and no font.  The range of
 * the JPEG is returned.
 */
static bool
find_only_jpeg(const DsocrBuffer *b, size_t *start, size_t *len)
{
	static const char mark[] = ">>\nstream\n";
	size_t at = 0;
	int images = 0;

	for (;;)
	{
		const char *found = memmem(b->data + at, b->len - at, mark, sizeof(mark) - 1);
		char dictionary[MAX_DICTIONARY];
		const char *open;
		size_t stream;
		long n;

		if (found == NULL)
			break;
		stream = (size_t) (found - b->data) + sizeof(mark) - 1;
		open = last_object(b->data + at, found);
		if (open == NULL || (size_t) (found - open) >= sizeof(dictionary))
			return false;
		memcpy(dictionary, open, (size_t) (found - open));
		dictionary[found - open] = '\0';
		n = stream_length(b, dictionary, stream);
		if (n < 0)
			return false;
		if (strstr(dictionary, "/Subtype /Image") != NULL)
		{
			images++;
			*start = stream;
			*len = (size_t) n;
			if (strstr(dictionary, "/DCTDecode") == NULL || strstr(dictionary, "/SMask") != NULL)
				return false;
		}
		at = stream + (size_t) n;
	}
	/* fonts are described behind the streams they refer to */
	return images == 1 && memmem(b->data + at, b->len - at, "/Font\n", 6) == NULL;
}

bool
dsocr_pdf_stored(PopplerPage *page, double width, double height, DsocrBuffer *jpeg)
{
	DsocrBuffer drawn = {0};
	size_t start = 0;
	size_t len = 0;
	bool ok = draw(page, width, height, &drawn) && find_only_jpeg(&drawn, &start, &len) &&
			  dsocr_buffer_append(jpeg, drawn.data + start, len, NULL);

	dsocr_buffer_free(&drawn);
	return ok;
}
