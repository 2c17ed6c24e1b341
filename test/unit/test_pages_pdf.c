/*-------------------------------------------------------------------------
 *
 * test_pages_pdf.c
 *		PDF in the page server: what pages look like, what is refused.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../reference/pages_peer.h"
#include "../reference/pdf_maker.h"
#include "image.h"
#include "image_sniff.h"

/* A line of text that only a font of the system can show. */
#define TEXT "BT /F 24 Tf 20 40 Td (Page %d) Tj ET"

static int
open_pdf(Peer *p, uint64_t id, DsocrBuffer pdf)
{
	int pages = dsocr_pages_open(p, id, pdf.data, pdf.len);

	dsocr_buffer_free(&pdf);
	return pages;
}

/* What is wrong with a document; it is freed. */
static DsocrError
refusal(Peer *p, DsocrBuffer pdf, DsocrRequest r)
{
	DsocrError status = {0};

	r.id = 77;
	r.image = (uint8_t *) pdf.data;
	r.image_len = pdf.len;
	assert_int_equal(dsocr_pages_open_as(p, &r, &status), 0);
	dsocr_buffer_free(&pdf);
	return status;
}

static DsocrImage
page_image(Peer *p, uint64_t document, int page)
{
	Frame f = dsocr_pages_get(p, 1000 + (uint64_t) page, document, page, DSOCR_PAGE_RAW);
	DsocrImage image;

	assert_string_equal(f.status.message, "");
	assert_true(dsocr_image_decode(f.result.image, f.result.image_len, 0, &image, NULL));
	assert_int_equal(image.width, f.result.width);
	assert_int_equal(image.height, f.result.height);
	dsocr_result_free(&f.result);
	return image;
}

static int
red_at(const DsocrImage *image, int x, int y)
{
	return image->rgb[((size_t) y * (size_t) image->width + (size_t) x) * 3];
}

/* Pixels that are nearly black. */
static int
count_dark(const DsocrImage *image)
{
	int n = 0;

	for (int y = 0; y < image->height; y++)
	{
		for (int x = 0; x < image->width; x++)
			n += red_at(image, x, y) < 64;
	}
	return n;
}

/* ---- what pages look like ---- */

static void
test_text(void **state)
{
	Peer p = dsocr_pages_start(NULL);
	DsocrImage image;
	Frame f;

	assert_int_equal(open_pdf(&p, 1, dsocr_pdf_pages(3, 200, 100, "", TEXT)), 3);
	image = page_image(&p, 1, 2);
	/* 144 dpi */
	assert_int_equal(image.width, 400);
	assert_int_equal(image.height, 200);
	assert_int_equal(red_at(&image, 0, 0), 255);
	assert_true(count_dark(&image) > 500);
	dsocr_image_free(&image);

	/* text without colour is gray */
	f = dsocr_pages_get(&p, 5, 1, 3, DSOCR_PAGE_RAW);
	assert_memory_equal(f.result.image, "P5\n400 200\n255\n", 15);
	assert_int_equal(f.result.image_len, 15 + 400 * 200);
	assert_int_equal(f.result.pages, 3);
	dsocr_result_free(&f.result);

	f = dsocr_pages_get(&p, 6, 1, 4, DSOCR_PAGE_RAW);
	assert_int_equal(f.status.code, DSOCR_E_ARGUMENT);
	assert_string_equal(f.status.message, "document has no page 4, it has 3");
	dsocr_peer_finish(&p);
}

static void
test_boxes(void **state)
{
	/* a square at the lower left corner, red below and gray above */
	static const char mark[] = "%% %d\n0 g 0 0 20 20 re f";
	Peer p = dsocr_pages_start(NULL);
	DsocrImage image;

	open_pdf(&p, 1, dsocr_pdf_pages(1, 200, 100, "/Rotate 90", mark));
	image = page_image(&p, 1, 1);
	assert_int_equal(image.width, 200);
	assert_int_equal(image.height, 400);
	assert_int_equal(red_at(&image, 20, 20), 0); /* turned clockwise: upper left */
	assert_int_equal(red_at(&image, 20, 380), 255);
	dsocr_image_free(&image);

	open_pdf(&p, 2, dsocr_pdf_pages(1, 200, 100, "/CropBox[10 10 110 60]", mark));
	image = page_image(&p, 2, 1);
	assert_int_equal(image.width, 200);
	assert_int_equal(image.height, 100);
	assert_int_equal(red_at(&image, 5, 95), 0);
	assert_int_equal(red_at(&image, 30, 95), 255);
	dsocr_image_free(&image);

	/* annotations are shown, scripts are not run */
	open_pdf(&p, 3,
			 dsocr_pdf_pages(1, 200, 100,
							 "/Annots[<</Type/Annot/Subtype/Square/Rect[100 50 140 90]/IC[0 0 0]"
							 "/F 4>>]/AA<</O<</S/JavaScript/JS(app.alert\\(1\\))>>>>",
							 mark));
	image = page_image(&p, 3, 1);
	assert_int_equal(red_at(&image, 240, 60), 0);
	dsocr_image_free(&image);
	dsocr_peer_finish(&p);
}

static void
test_sizes(void **state)
{
	static const struct
	{
		int width; /* points */
		int height;
		int dpi;
		uint64_t max_pixels;
		int expected; /* pixels of the width, 0 = what fits */
	} cases[] = {
		{100, 50, 72, 0, 100},	{100, 50, 300, 0, 417},		{1, 1, 1, 0, 1},
		{1, 14400, 72, 0, 1},	{14400, 14400, 2400, 0, 0}, {100, 100, 144, 100, 0},
		{1, 14400, 2400, 0, 0}, {200, 100, 144, 1, 1},		{3, 2, 1, 0, 1},
	};
	Peer p = dsocr_pages_start(NULL);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DsocrBuffer pdf = dsocr_pdf_pages(1, cases[i].width, cases[i].height, "", "%% %d");
		DsocrRequest r = {.id = 10 + i,
						  .dpi = cases[i].dpi,
						  .max_pixels = cases[i].max_pixels,
						  .image = (uint8_t *) pdf.data,
						  .image_len = pdf.len};
		uint64_t most = cases[i].max_pixels > 0 ? cases[i].max_pixels : 50000000;
		Frame f;

		assert_int_equal(dsocr_pages_open_as(&p, &r, NULL), 1);
		f = dsocr_pages_get(&p, 100 + i, 10 + i, 1, DSOCR_PAGE_RAW);
		assert_string_equal(f.status.message, "");
		assert_true((uint64_t) f.result.width * (uint64_t) f.result.height <= most);
		if (cases[i].expected > 0)
			assert_int_equal(f.result.width, cases[i].expected);
		else if (cases[i].width == cases[i].height)
			assert_true((uint64_t) f.result.width * (uint64_t) f.result.height > most / 2);
		dsocr_result_free(&f.result);
		dsocr_buffer_free(&pdf);
		dsocr_pages_close(&p, 10 + i);
	}
	dsocr_peer_finish(&p);
}

static void
test_crop_and_draw(void **state)
{
	static const char mark[] = "%% %d\n1 0 0 rg 0 0 20 20 re f";
	DsocrRequest r = {.id = 2,
					  .kind = DSOCR_PAGE,
					  .document = 1,
					  .page = 1,
					  .output = DSOCR_PAGE_CROP,
					  .crop = {-5, 180, 30, 900}};
	Peer p = dsocr_pages_start(NULL);
	DsocrImage image;
	Frame f;

	open_pdf(&p, 1, dsocr_pdf_pages(1, 200, 100, "", mark));
	dsocr_pages_send(&p, &r);
	f = dsocr_peer_next(&p, true);
	assert_string_equal(f.status.message, "");
	assert_int_equal(dsocr_image_sniff(f.result.image, f.result.image_len), DSOCR_FORMAT_PNG);
	assert_true(dsocr_image_decode(f.result.image, f.result.image_len, 0, &image, NULL));
	assert_int_equal(image.width, 30);
	assert_int_equal(image.height, 20);
	assert_memory_equal(image.rgb, "\xff\x00\x00", 3);
	dsocr_image_free(&image);
	dsocr_result_free(&f.result);

	r.crop[1] = 2000;
	r.crop[3] = 3000;
	dsocr_pages_send(&p, &r);
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.status.code, DSOCR_E_ARGUMENT);

	r.output = DSOCR_PAGE_DRAWN;
	r.prompt = "box 100 50 300 150 table\ntext 10 10 note\n";
	dsocr_pages_send(&p, &r);
	f = dsocr_peer_next(&p, true);
	assert_string_equal(f.status.message, "");
	assert_true(dsocr_image_decode(f.result.image, f.result.image_len, 0, &image, NULL));
	assert_int_equal(image.width, 400);
	/* the frame is green, its inside nearly white, the outside untouched */
	assert_in_range(red_at(&image, 200, 50), 0, 60);
	assert_in_range(red_at(&image, 200, 100), 200, 254);
	assert_int_equal(red_at(&image, 350, 100), 255);
	dsocr_image_free(&image);
	dsocr_result_free(&f.result);

	r.prompt = "box 1 2 3\n";
	dsocr_pages_send(&p, &r);
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.status.code, DSOCR_E_ARGUMENT);
	assert_string_equal(f.status.message, "page 1: drawing: line 1 is not a shape");
	dsocr_peer_finish(&p);
}

/* A page that draws a JPEG over all of it, and then something more. */
static DsocrBuffer
scan(const DsocrBuffer *jpeg, const char *more)
{
	PdfMaker *m = calloc(1, sizeof(*m));
	char content[256];
	DsocrBuffer out;

	assert_non_null(m);
	dsocr_pdf_object(m, "<</Type/Catalog/Pages 2 0 R>>");
	dsocr_pdf_object(m, "<</Type/Pages/Count 1/MediaBox[0 0 320 240]/Kids[3 0 R]>>");
	dsocr_pdf_object(m, "<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>"
						"/Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>");
	snprintf(content, sizeof(content), "q 320 0 0 240 0 0 cm /X Do Q %s", more);
	dsocr_pdf_stream(m, "", content, strlen(content));
	dsocr_pdf_stream(m,
					 "/Type/XObject/Subtype/Image/Width 640/Height 480/BitsPerComponent 8"
					 "/ColorSpace/DeviceRGB/Filter/DCTDecode",
					 jpeg->data, jpeg->len);
	dsocr_pdf_end(m);
	out = m->out;
	free(m);
	return out;
}

static void
test_embed(void **state)
{
	static const struct
	{
		const char *more;
		bool stored;
	} cases[] = {
		{"", true},
		{"BT 3 Tr /F 20 Tf 20 20 Td (not to be seen) Tj ET", true},
		{"BT /F 20 Tf 20 20 Td (to be seen) Tj ET", false},
		{"1 g 100 100 30 30 re f", false},
		{"q 0 0 160 240 re W n 320 0 0 240 0 0 cm /X Do Q 160 0 160 240 re f", false},
	};
	DsocrBuffer jpeg = dsocr_pages_file("photo420.jpg");
	DsocrBuffer turned = dsocr_pages_file("exif6.jpg");
	DsocrRequest r = {.id = 10, .dpi = 72};
	DsocrBuffer pdf;
	Peer p = dsocr_pages_start(NULL);
	Frame f;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		assert_int_equal(open_pdf(&p, i + 1, scan(&jpeg, cases[i].more)), 1);
		f = dsocr_pages_get(&p, 100, i + 1, 1, DSOCR_PAGE_EMBED);
		assert_string_equal(f.status.message, "");
		assert_int_equal(f.result.width, 640);
		assert_int_equal(f.result.height, 480);
		if (cases[i].stored)
		{
			assert_int_equal(f.result.image_len, jpeg.len);
			assert_memory_equal(f.result.image, jpeg.data, jpeg.len);
		}
		else
			assert_int_equal(dsocr_image_sniff(f.result.image, f.result.image_len),
							 DSOCR_FORMAT_PNG);
		dsocr_result_free(&f.result);
	}
	/* the size is the page's, at whatever resolution it was asked for */
	r.image_len = (pdf = scan(&jpeg, "")).len;
	r.image = (uint8_t *) pdf.data;
	assert_int_equal(dsocr_pages_open_as(&p, &r, NULL), 1);
	f = dsocr_pages_get(&p, 11, 10, 1, DSOCR_PAGE_EMBED);
	assert_int_equal(f.result.width, 320);
	assert_int_equal(f.result.height, 240);
	assert_int_equal(f.result.image_len, jpeg.len);
	dsocr_result_free(&f.result);
	dsocr_buffer_free(&pdf);
	/* a JPEG by itself, unless it has to be turned */
	assert_int_equal(dsocr_pages_open(&p, 20, jpeg.data, jpeg.len), 1);
	f = dsocr_pages_get(&p, 21, 20, 1, DSOCR_PAGE_EMBED);
	assert_int_equal(f.result.image_len, jpeg.len);
	assert_memory_equal(f.result.image, jpeg.data, jpeg.len);
	dsocr_result_free(&f.result);
	assert_int_equal(dsocr_pages_open(&p, 22, turned.data, turned.len), 1);
	f = dsocr_pages_get(&p, 23, 22, 1, DSOCR_PAGE_EMBED);
	assert_int_equal(dsocr_image_sniff(f.result.image, f.result.image_len), DSOCR_FORMAT_PNG);
	dsocr_result_free(&f.result);
	dsocr_buffer_free(&jpeg);
	dsocr_buffer_free(&turned);
	dsocr_peer_finish(&p);
}

/* ---- what is refused ---- */

static DsocrBuffer
sample(const char *name)
{
	DsocrBuffer b;
	char path[256];

	snprintf(path, sizeof(path), "test/fuzz/corpus/pdf/%s", name);
	assert_true(dsocr_read_file(path, 1 << 20, &b, NULL));
	return b;
}

static void
test_encrypted(void **state)
{
	Peer p = dsocr_pages_start(NULL);
	DsocrError status = refusal(&p, sample("encrypted.pdf"), (DsocrRequest){0});
	DsocrBuffer pdf = sample("encrypted.pdf");
	DsocrRequest r = {
		.id = 1, .prompt = "s\xc3\xa9same", .image = (uint8_t *) pdf.data, .image_len = pdf.len};
	DsocrImage image;

	assert_int_equal(status.code, DSOCR_E_IMAGE);
	assert_string_equal(status.message, "document is encrypted");
	assert_non_null(strstr(status.hint, "password"));
	status = refusal(&p, sample("encrypted.pdf"), (DsocrRequest){.prompt = "wrong"});
	assert_int_equal(status.code, DSOCR_E_IMAGE);
	assert_string_equal(status.message, "document is encrypted with another password");
	assert_int_equal(dsocr_pages_open_as(&p, &r, NULL), 1);
	image = page_image(&p, 1, 1);
	assert_true(count_dark(&image) > 100);
	dsocr_image_free(&image);
	dsocr_buffer_free(&pdf);
	dsocr_peer_finish(&p);
}

static void
test_damaged(void **state)
{
	Peer p = dsocr_pages_start(NULL);
	DsocrBuffer pdf = dsocr_pdf_pages(3, 200, 100, "", TEXT);
	DsocrBuffer junk = {0};
	DsocrError status;
	char *at = strstr(pdf.data, "startxref");

	/* a table of contents that points anywhere is made again */
	memcpy(at + 10, "99", 2);
	assert_int_equal(dsocr_pages_open(&p, 1, pdf.data, pdf.len), 3);
	/* and so is one that is missing */
	memcpy(strstr(pdf.data, "xref\n0"), "none", 4);
	assert_int_equal(dsocr_pages_open(&p, 2, pdf.data, pdf.len), 3);
	dsocr_buffer_free(&pdf);

	assert_true(dsocr_buffer_printf(&junk, NULL, "%%PDF-1.7\nnothing of the kind\n"));
	status = refusal(&p, junk, (DsocrRequest){0});
	assert_int_equal(status.code, DSOCR_E_IMAGE);
	assert_string_equal(status.message, "PDF is damaged beyond repair");
	status = refusal(&p, (DsocrBuffer){0}, (DsocrRequest){0});
	assert_int_equal(status.code, DSOCR_E_IMAGE);
	assert_string_equal(status.message, "document is empty");
	memset(&junk, 0, sizeof(junk));
	assert_true(dsocr_buffer_printf(&junk, NULL, "Dear Sirs,"));
	status = refusal(&p, junk, (DsocrRequest){0});
	assert_int_equal(status.code, DSOCR_E_IMAGE);
	status = refusal(&p, dsocr_pdf_pages(1, 9, 9, "", TEXT), (DsocrRequest){.dpi = 100000});
	assert_int_equal(status.code, DSOCR_E_ARGUMENT);
	dsocr_peer_finish(&p);
}

/* A tree in which every node has the same child many times: 10^6 pages in a few lines. */
static DsocrBuffer
million_pages(void)
{
	PdfMaker *m = calloc(1, sizeof(*m));
	DsocrBuffer out;

	assert_non_null(m);
	dsocr_pdf_object(m, "<</Type/Catalog/Pages 2 0 R>>");
	for (int level = 0, count = 1000000; level < 6; level++, count /= 10)
		dsocr_pdf_object(m,
						 "<</Type/Pages/Count %d/MediaBox[0 0 100 100]/Kids[%d 0 R %d 0 R %d 0 R "
						 "%d 0 R %d 0 R %d 0 R %d 0 R %d 0 R %d 0 R %d 0 R]>>",
						 count, level + 3, level + 3, level + 3, level + 3, level + 3, level + 3,
						 level + 3, level + 3, level + 3, level + 3);
	dsocr_pdf_object(m, "<</Type/Page/Parent 7 0 R>>");
	dsocr_pdf_end(m);
	out = m->out;
	free(m);
	return out;
}

/* A document whose pages are one object, shown over and over, and many more objects. */
static DsocrBuffer
flat_pages(int n)
{
	DsocrBuffer out = {0};

	assert_true(dsocr_buffer_printf(&out, NULL,
									"%%PDF-1.7\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
									"2 0 obj<</Type/Pages/Count %d/MediaBox[0 0 50 50]/Kids[",
									n));
	for (int i = 0; i < n; i++)
		assert_true(dsocr_buffer_printf(&out, NULL, "%d 0 R ", i + 3));
	assert_true(dsocr_buffer_printf(&out, NULL, "]>>endobj\n"));
	for (int i = 0; i < n; i++)
		assert_true(
			dsocr_buffer_printf(&out, NULL, "%d 0 obj<</Type/Page/Parent 2 0 R>>endobj\n", i + 3));
	assert_true(dsocr_buffer_printf(&out, NULL, "trailer<</Size %d/Root 1 0 R>>\n", n + 3));
	return out;
}

static void
test_many_pages(void **state)
{
	Peer p = dsocr_pages_start(NULL);
	int64_t begin = dsocr_now_us();
	DsocrError status = refusal(&p, million_pages(), (DsocrRequest){0});
	DsocrImage image;

	/* more pages than objects is a lie */
	assert_int_equal(status.code, DSOCR_E_IMAGE);
	assert_true(dsocr_now_us() - begin < 1000000);
	status = refusal(&p, flat_pages(20000), (DsocrRequest){.max_pages = 10000});
	assert_int_equal(status.code, DSOCR_E_TOO_LONG);
	assert_string_equal(status.message, "document of 20000 pages exceeds the limit of 10000 pages");
	assert_non_null(strstr(status.hint, "dsocr.max_pages"));
	assert_true(dsocr_now_us() - begin < 3000000);
	status = refusal(&p, dsocr_pdf_pages(3, 9, 9, "", TEXT), (DsocrRequest){.max_pages = 2});
	assert_int_equal(status.code, DSOCR_E_TOO_LONG);
	assert_int_equal(open_pdf(&p, 1, flat_pages(20000)), 20000);
	image = page_image(&p, 1, 19999);
	dsocr_image_free(&image);
	dsocr_peer_finish(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),	cmocka_unit_test(test_boxes),
		cmocka_unit_test(test_sizes),	cmocka_unit_test(test_crop_and_draw),
		cmocka_unit_test(test_embed),	cmocka_unit_test(test_encrypted),
		cmocka_unit_test(test_damaged), cmocka_unit_test(test_many_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
