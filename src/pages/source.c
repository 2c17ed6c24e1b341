/*-------------------------------------------------------------------------
 *
 * source.c
 *		An open document: choosing its kind, answering for its pages.
 *
 *-------------------------------------------------------------------------
 */
#include "source.h"

#include <stdio.h>
#include <string.h>

#include "image_sniff.h"
#include "page_draw.h"

/* A PGM or PPM beyond this would not fit into an answer; it goes as PNG. */
#define MAX_RAW_BYTES ((size_t) 192 << 20)

/* A page beyond this is not kept for the next request. */
#define MAX_KEPT_BYTES ((size_t) 64 << 20)

bool
dsocr_source_check_pages(int pages, int max_pages, DsocrError *err)
{
	if (pages < 1)
		return dsocr_fail(err, DSOCR_E_IMAGE, "document has no pages");
	if (max_pages <= 0 || pages <= max_pages)
		return true;
	dsocr_fail(err, DSOCR_E_TOO_LONG, "document of %d pages exceeds the limit of %d pages", pages,
			   max_pages);
	return dsocr_hint(err, "Split the document, or raise dsocr.max_pages.");
}

bool
dsocr_source_open(DsocrSource *s, const DsocrSourceOptions *options, DsocrError *err)
{
	bool ok;

	memset(s, 0, sizeof(*s));
	s->options = *options;
	if (options->dpi < 0 || options->dpi > DSOCR_PAGES_MAX_DPI)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "resolution of %d dpi is not between 1 and %d",
						  options->dpi, DSOCR_PAGES_MAX_DPI);
	if (s->options.dpi == 0)
		s->options.dpi = DSOCR_PAGES_DPI;
	if (options->len == 0)
		return dsocr_fail(err, DSOCR_E_IMAGE, "document is empty");
	if (dsocr_image_sniff(options->bytes, options->len) == DSOCR_FORMAT_PDF)
		ok = dsocr_source_open_pdf(s, err);
	else
		ok = dsocr_source_open_image(s, err);
	ok = ok && dsocr_source_check_pages(s->pages, options->max_pages, err);
	if (!ok)
		dsocr_source_close(s);
	return ok;
}

void
dsocr_source_close(DsocrSource *s)
{
	if (s->close != NULL)
		s->close(s);
	dsocr_raster_free(&s->kept);
	memset(s, 0, sizeof(*s));
}

/* ---- pages ---- */

/* Number the page in front of what went wrong with it. */
static bool
name_page(int page, DsocrError *err)
{
	char message[sizeof(err->message)];

	if (err == NULL)
		return false;
	snprintf(message, sizeof(message), "page %d: %.230s", page, err->message);
	memcpy(err->message, message, sizeof(message));
	return false;
}

bool
dsocr_source_rendered(DsocrSource *s, int page, DsocrError *err)
{
	if (s->kept_page == page)
		return true;
	dsocr_raster_free(&s->kept);
	s->kept_page = 0;
	if (!s->render(s, page, &s->kept, err))
		return false;
	dsocr_raster_reduce(&s->kept);
	s->kept_page = page;
	return true;
}

static bool
make_drawn(const DsocrRaster *page, const char *list, DsocrBuffer *out, DsocrError *err)
{
	DsocrRaster drawn = {0};
	bool ok = dsocr_page_draw(page, list == NULL ? "" : list, &drawn, err);

	ok = ok && dsocr_raster_png(&drawn, out, err);
	dsocr_raster_free(&drawn);
	return ok;
}

static bool
make_crop(const DsocrRaster *page, const DsocrRequest *r, DsocrResult *result, DsocrBuffer *out,
		  DsocrError *err)
{
	DsocrRaster part;
	bool ok = dsocr_raster_crop(page, r->crop, &part, err);

	result->width = part.width;
	result->height = part.height;
	ok = ok && dsocr_raster_png(&part, out, err);
	dsocr_raster_free(&part);
	return ok;
}

static bool
make(DsocrSource *s, const DsocrRequest *r, DsocrResult *result, DsocrBuffer *out, DsocrError *err)
{
	if (r->output == DSOCR_PAGE_EMBED && s->stored != NULL &&
		s->stored(s, r->page, out, &result->width, &result->height))
		return true;
	if (!dsocr_source_rendered(s, r->page, err))
		return false;
	result->width = s->kept.width;
	result->height = s->kept.height;
	switch (r->output)
	{
		case DSOCR_PAGE_RAW:
			if (dsocr_raster_size(&s->kept) <= MAX_RAW_BYTES)
				return dsocr_raster_pnm(&s->kept, out, err);
			return dsocr_raster_png(&s->kept, out, err);
		case DSOCR_PAGE_PNG:
		case DSOCR_PAGE_EMBED:
			return dsocr_raster_png(&s->kept, out, err);
		case DSOCR_PAGE_DRAWN:
			return make_drawn(&s->kept, r->prompt, out, err);
		case DSOCR_PAGE_CROP:
			return make_crop(&s->kept, r, result, out, err);
	}
	return dsocr_fail(err, DSOCR_E_ARGUMENT, "unknown kind of page image");
}

bool
dsocr_source_page(DsocrSource *s, const DsocrRequest *r, DsocrResult *result, DsocrError *err)
{
	int64_t begin = dsocr_now_us();
	DsocrBuffer out = {0};

	memset(result, 0, sizeof(*result));
	if (r->page < 1 || r->page > s->pages)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "document has no page %d, it has %d", r->page,
						  s->pages);
	if (!make(s, r, result, &out, err))
	{
		dsocr_buffer_free(&out);
		memset(result, 0, sizeof(*result));
		return name_page(r->page, err);
	}
	if (s->kept_page != 0 && dsocr_raster_size(&s->kept) > MAX_KEPT_BYTES)
	{
		dsocr_raster_free(&s->kept);
		s->kept_page = 0;
	}
	result->pages = s->pages;
	result->image = (uint8_t *) out.data;
	result->image_len = out.len;
	result->timings.preprocess = dsocr_now_us() - begin;
	return true;
}
