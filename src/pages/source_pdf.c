/*-------------------------------------------------------------------------
 *
 * source_pdf.c
 *		A PDF as a document, by poppler and cairo.
 *
 * Pages are shown as a viewer shows them: crop box, /Rotate, annotations and
 * form fields, on white.  What poppler repairs is repaired.
 *
 *-------------------------------------------------------------------------
 */
#include "source.h"

#include <fontconfig/fontconfig.h>
#include <math.h>
#include <poppler.h>
#include <stdio.h>
#include <string.h>

#include "pdf_stored.h"
#include "stored_jpeg.h"
#include "surface.h"

#define POINTS_PER_INCH 72.0
#define MAX_POINTS 14400 /* a side of a page that may be a scan */

/* A page of one line in a font that it does not hold: what every document may need. */
static const char sample[] =
	"%PDF-1.4\n"
	"1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
	"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
	"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 40 20]/Contents 4 0 R"
	"/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>endobj\n"
	"4 0 obj<</Length 34>>stream\nBT /F 12 Tf 4 4 Td (sample) Tj ET \nendstream endobj\n"
	"trailer<</Root 1 0 R>>\n";

void
dsocr_source_versions(char *text, size_t size)
{
	snprintf(text, size, "poppler %s, cairo %s", poppler_get_version(), cairo_version_string());
}

/* ---- rendering ---- */

/* Pixels of a length, rounded up but for what rounding made of it. */
static int
to_pixels(double points, double scale)
{
	double pixels = ceil(points * scale - 1e-3);

	return pixels < 1 ? 1 : (int) pixels;
}

/* Pixels per point for a page of this size, such that it stays within the budget. */
static bool
choose_scale(const DsocrSource *s, double width, double height, double *scale, DsocrError *err)
{
	uint64_t most = s->options.max_pixels;
	double budget = DSOCR_PAGES_MAX_PIXELS;
	double side = width > height ? width : height;
	double pixels;

	if (!isfinite(width) || !isfinite(height) || width <= 0 || height <= 0 || side > 1e9)
		return dsocr_fail(err, DSOCR_E_IMAGE, "size of %g x %g points cannot be shown", width,
						  height);
	if (most > 0 && (double) most < budget)
		budget = (double) most;
	*scale = s->options.dpi / POINTS_PER_INCH;
	if (side * *scale > DSOCR_SURFACE_MAX_SIDE)
		*scale = DSOCR_SURFACE_MAX_SIDE / side;
	pixels = width * *scale * height * *scale;
	if (pixels > budget)
		*scale *= sqrt(budget / pixels);
	/* sides are rounded up */
	while ((double) to_pixels(width, *scale) * to_pixels(height, *scale) > budget)
		*scale *= 0.999;
	return true;
}

static bool
draw_page(PopplerPage *page, cairo_surface_t *surface, double scale, DsocrError *err)
{
	cairo_t *cairo = cairo_create(surface);
	cairo_status_t status;

	cairo_scale(cairo, scale, scale);
	poppler_page_render(page, cairo);
	status = cairo_status(cairo);
	cairo_destroy(cairo);
	if (status == CAIRO_STATUS_NO_MEMORY)
		return dsocr_fail(err, DSOCR_E_MEMORY, "out of memory while drawing the page");
	/* any other complaint is about a part of the page; the rest is there */
	return true;
}

static bool
render(DsocrSource *s, int number, DsocrRaster *out, DsocrError *err)
{
	PopplerPage *page = poppler_document_get_page(s->state, number - 1);
	cairo_surface_t *surface = NULL;
	double width;
	double height;
	double scale = 0;
	bool ok;

	if (page == NULL)
		return dsocr_fail(err, DSOCR_E_IMAGE, "the page is damaged");
	poppler_page_get_size(page, &width, &height);
	ok = choose_scale(s, width, height, &scale, err);
	if (ok)
		surface = dsocr_surface_create(to_pixels(width, scale), to_pixels(height, scale), err);
	ok = surface != NULL && draw_page(page, surface, scale, err);
	g_object_unref(page);
	if (ok)
		return dsocr_surface_take(surface, out, err);
	if (surface != NULL)
		cairo_surface_destroy(surface);
	return false;
}

/*
 * The JPEG that a scanner made a PDF of, if this page is one.  The size is that
 * of the page at its resolution, whatever pixels the JPEG has.
 */
static bool
stored(DsocrSource *s, int number, DsocrBuffer *jpeg, int *width, int *height)
{
	PopplerPage *page = poppler_document_get_page(s->state, number - 1);
	double w;
	double h;
	bool ok;

	if (page == NULL)
		return false;
	poppler_page_get_size(page, &w, &h);
	ok = w > 0 && h > 0 && w < MAX_POINTS && h < MAX_POINTS && dsocr_pdf_stored(page, w, h, jpeg);
	g_object_unref(page);
	ok = ok && dsocr_stored_jpeg((uint8_t *) jpeg->data, jpeg->len, width, height) &&
		 dsocr_source_rendered(s, number, NULL) &&
		 dsocr_stored_shows((uint8_t *) jpeg->data, jpeg->len, s->options.max_pixels, &s->kept);
	if (!ok)
	{
		dsocr_buffer_free(jpeg);
		return false;
	}
	*width = s->kept.width;
	*height = s->kept.height;
	return true;
}

/* ---- opening ---- */

static void
close_pdf(DsocrSource *s)
{
	if (s->state != NULL)
		g_object_unref(s->state);
}

static bool
refuse(const GError *why, bool with_password, DsocrError *err)
{
	if (why != NULL && why->domain == POPPLER_ERROR && why->code == POPPLER_ERROR_ENCRYPTED)
	{
		dsocr_fail(err, DSOCR_E_IMAGE,
				   with_password ? "document is encrypted with another password"
								 : "document is encrypted");
		return dsocr_hint(err, "Pass the password as argument \"password\".");
	}
	if (why != NULL && why->domain == POPPLER_ERROR && why->code == POPPLER_ERROR_DAMAGED)
		return dsocr_fail(err, DSOCR_E_IMAGE, "PDF is damaged beyond repair");
	return dsocr_fail(err, DSOCR_E_IMAGE, "PDF cannot be opened: %.150s",
					  why == NULL ? "unknown reason" : why->message);
}

/*
 * A password is tried in two encodings, and the second time poppler 22 uses a
 * null pointer unless it reads from a stream.
 */
static PopplerDocument *
open_bytes(const void *bytes, size_t len, const char *password, GError **why)
{
	GBytes *all = g_bytes_new_static(bytes, len);
	PopplerDocument *document;

	if (password == NULL)
		document = poppler_document_new_from_bytes(all, NULL, why);
	else
	{
		GInputStream *stream = g_memory_input_stream_new_from_bytes(all);

		document = poppler_document_new_from_stream(stream, (goffset) len, password, NULL, why);
		g_object_unref(stream);
	}
	g_bytes_unref(all);
	return document;
}

bool
dsocr_source_open_pdf(DsocrSource *s, DsocrError *err)
{
	const char *password = s->options.password;
	GError *why = NULL;

	s->format = "PDF";
	s->close = close_pdf;
	s->render = render;
	s->stored = stored;
	s->state = open_bytes(s->options.bytes, s->options.len, password, &why);
	if (s->state == NULL)
	{
		refuse(why, password != NULL && password[0] != '\0', err);
		g_clear_error(&why);
		return false;
	}
	s->pages = poppler_document_get_n_pages(s->state);
	return true;
}

void
dsocr_source_warm(void)
{
	/* never closed: the libraries forget what they read with the last document */
	static PopplerDocument *kept;
	static GIConv latin1;
	DsocrRaster pixels;
	DsocrSource s = {.options = {.dpi = DSOCR_PAGES_DPI}, .render = render};

	if (kept != NULL || latin1 != NULL || !FcInit())
		return;
	/* looking for new fonts is not possible in a renderer */
	(void) FcConfigSetRescanInterval(NULL, 0);
	/* passwords are converted by a module of the C library, which stays loaded */
	latin1 = g_iconv_open("ISO-8859-1", "UTF-8");
	kept = open_bytes(sample, sizeof(sample) - 1, NULL, NULL);
	s.state = kept;
	if (kept != NULL && render(&s, 1, &pixels, NULL))
		dsocr_raster_free(&pixels);
}
