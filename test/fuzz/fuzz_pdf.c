/*-------------------------------------------------------------------------
 *
 * fuzz_pdf.c
 *		A PDF from the first byte to the images of its first pages.
 *
 * Opened as the page server's renderer does.  poppler is not built for this,
 * so what is looked at is our side: sizes, budgets, errors, what is stored.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "source.h"

#define MAX_PIXELS 40000
#define PAGES 2

extern int LLVMFuzzerInitialize(int *argc, char ***argv);
extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const char *__lsan_default_suppressions(void);

/* What the libraries keep for the life of the process, or lose of damaged documents. */
const char *
__lsan_default_suppressions(void)
{
	return "leak:libpoppler\nleak:libfontconfig\nleak:libglib\nleak:libcairo\nleak:libgobject\n";
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	dsocr_source_warm();
	return 0;
}

static void
make(DsocrSource *s, int page, DsocrPageOutput output)
{
	DsocrRequest r = {.kind = DSOCR_PAGE, .page = page, .output = output, .crop = {0, 0, 50, 50}};
	DsocrResult result;
	DsocrError err = {0};

	if (!dsocr_source_page(s, &r, &result, &err))
	{
		if (err.code == DSOCR_OK || err.message[0] == '\0')
			abort();
		return;
	}
	/* a stored JPEG is as large as it is */
	if (result.image_len == 0 || result.width < 1 || result.height < 1 ||
		(output != DSOCR_PAGE_EMBED &&
		 (int64_t) result.width * (int64_t) result.height > MAX_PIXELS))
		abort();
	dsocr_result_free(&result);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	DsocrSourceOptions options = {
		.bytes = data, .len = size, .dpi = 36, .max_pages = 1000, .max_pixels = MAX_PIXELS};
	DsocrSource s;
	DsocrError err = {0};

	if (size == 0)
		return 0;
	if (!dsocr_source_open(&s, &options, &err))
	{
		if (err.code == DSOCR_OK || err.message[0] == '\0')
			abort();
		return 0;
	}
	if (s.pages < 1 || s.pages > options.max_pages)
		abort();
	for (int page = 1; page <= PAGES && page <= s.pages; page++)
	{
		make(&s, page, DSOCR_PAGE_RAW);
		make(&s, page, DSOCR_PAGE_CROP);
		make(&s, page, DSOCR_PAGE_EMBED);
	}
	dsocr_source_close(&s);
	return 0;
}
