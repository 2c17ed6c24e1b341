/*-------------------------------------------------------------------------
 *
 * pdf_writer.c
 *		A PDF of page images with invisible text over them.
 *
 * The file grows in one buffer that becomes the bytea as it is.  Only the
 * places of objects and the characters of the font are kept beside it, so a
 * page costs its own bytes and nothing more.
 *
 * Coordinates: the runs of text are in pixels of the upright page; one matrix
 * for each page takes them to points of the page as it is stored.  /Rotate
 * then shows the page upright.
 *
 *-------------------------------------------------------------------------
 */
#include "pdf_writer.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "pdf_font.h"
#include "visual_order.h"

/* PDF knows no larger pages, in points. */
#define MAX_SIDE 14400.0
#define MIN_SIDE 3.0

/* Objects with fixed numbers. */
enum
{
	OBJECT_CATALOG = 1,
	OBJECT_PAGES,
	OBJECT_INFO,
	OBJECT_FONT, /* of the invisible text */
	OBJECT_CID_FONT,
	OBJECT_FONT_DESCRIPTOR,
	OBJECT_FONT_PROGRAM,
	OBJECT_FONT_GLYPHS,
	OBJECT_FONT_UNICODE,
	OBJECT_HELVETICA, /* of notices */
	OBJECT_FREE
};

struct DsocrPdf
{
	MemoryContext context;
	StringInfoData out; /* a varlena header, then the file */
	DsocrPdfFont *font;
	int n_objects;
	int capacity;
	uint32 *places; /* of objects; 0 = not written */
	int n_pages;
	int page_capacity;
	uint32 *pages; /* their objects */
};

static int
new_object(DsocrPdf *pdf)
{
	if (pdf->n_objects == pdf->capacity)
	{
		pdf->capacity *= 2;
		pdf->places = repalloc(pdf->places, sizeof(uint32) * pdf->capacity);
	}
	pdf->places[pdf->n_objects] = 0;
	return pdf->n_objects++;
}

static void
begin_object(DsocrPdf *pdf, int number)
{
	pdf->places[number] = pdf->out.len - VARHDRSZ;
	appendStringInfo(&pdf->out, "%d 0 obj\n", number);
}

/* Is there room for so many bytes more?  A bytea ends where a StringInfo does. */
static void
make_room(DsocrPdf *pdf, size_t bytes)
{
	if (bytes > MaxAllocSize - 65536 - pdf->out.len)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the PDF would be larger than a value may be, 1 GB"),
						errhint("Make several files of it with the argument pages.")));
	enlargeStringInfo(&pdf->out, (int) bytes);
}

/* An object that is a stream; entries come before its length. */
static void
put_stream(DsocrPdf *pdf, int number, const char *entries, const DsocrPdfPart *parts, int n_parts)
{
	size_t len = 0;

	for (int i = 0; i < n_parts; i++)
		len += parts[i].len;
	make_room(pdf, len);
	begin_object(pdf, number);
	appendStringInfo(&pdf->out, "<< %s /Length %zu >>\nstream\n", entries, len);
	for (int i = 0; i < n_parts; i++)
		appendBinaryStringInfo(&pdf->out, (const char *) parts[i].bytes, (int) parts[i].len);
	appendStringInfoString(&pdf->out, "\nendstream\nendobj\n");
}

static void
put_buffer(DsocrPdf *pdf, int number, const char *entries, const StringInfoData *bytes)
{
	DsocrPdfPart part = {(const uint8 *) bytes->data, bytes->len};

	put_stream(pdf, number, entries, &part, 1);
}

DsocrPdf *
dsocr_pdf_create(void)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dsocr PDF", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	DsocrPdf *pdf = palloc0(sizeof(DsocrPdf));

	pdf->context = context;
	pdf->font = dsocr_pdf_font_create();
	pdf->capacity = pdf->page_capacity = 64;
	pdf->places = palloc0(sizeof(uint32) * pdf->capacity);
	pdf->pages = palloc(sizeof(uint32) * pdf->page_capacity);
	pdf->n_objects = OBJECT_FREE;
	MemoryContextSwitchTo(caller);
	/* not in the writer's context: it becomes the result */
	initStringInfo(&pdf->out);
	appendStringInfoSpaces(&pdf->out, VARHDRSZ);
	/* bytes over 127 say that this is no text file */
	appendStringInfoString(&pdf->out, "%PDF-1.5\n%\xe2\xe3\xcf\xd3\n");
	return pdf;
}

/* ---- pages ---- */

/* From pixels of the upright page, y upwards, to points of the stored one. */
static void
put_text_matrix(StringInfo out, const DsocrLayoutPage *layout, double w, double h)
{
	double x = w / layout->width;
	double y = h / layout->height;

	switch (layout->rotation)
	{
		case 90:
			appendStringInfo(out, "0 %.6f %.6f 0 %.4f 0 cm\n", y, -x, w);
			break;
		case 180:
			appendStringInfo(out, "%.6f 0 0 %.6f %.4f %.4f cm\n", -x, -y, w, h);
			break;
		case 270:
			appendStringInfo(out, "0 %.6f %.6f 0 0 %.4f cm\n", -y, x, h);
			break;
		default:
			appendStringInfo(out, "%.6f 0 0 %.6f 0 0 cm\n", x, y);
			break;
	}
}

/* One line of invisible text, stretched to the width of its place. */
static void
put_run(DsocrPdf *pdf, StringInfo out, const DsocrTextRun *run, double height)
{
	double size = Max(run->rect.y2 - run->rect.y1, 0.1);
	double natural = Max(run->width, 0.01) * size;
	double stretch = Min(Max(100 * (run->rect.x2 - run->rect.x1) / natural, 0.1), 30000.0);
	int n;
	pg_wchar *characters = dsocr_visual_order(run->text, &n);

	appendStringInfo(out, "/T %.3f Tf %.3f Tz 1 0 0 1 %.3f %.3f Tm <", size, stretch, run->rect.x1,
					 height - run->rect.y2 + 0.2 * size);
	for (int i = 0; i < n; i++)
		appendStringInfo(out, "%04X", dsocr_pdf_font_code(pdf->font, characters[i]));
	appendStringInfoString(out, "> Tj\n");
	pfree(characters);
}

static void
put_text(DsocrPdf *pdf, StringInfo out, const DsocrLayoutPage *layout, double w, double h)
{
	bool lies = layout->rotation == 90 || layout->rotation == 270;
	DsocrTextRuns *runs = dsocr_text_runs(layout);

	appendStringInfoString(out, "q\n");
	put_text_matrix(out, layout, w, h);
	appendStringInfoString(out, "BT 3 Tr\n");
	for (int i = 0; i < layout->n_blocks; i++)
		for (int k = 0; k < runs[i].n; k++)
		{
			CHECK_FOR_INTERRUPTS();
			put_run(pdf, out, &runs[i].runs[k], lies ? layout->width : layout->height);
		}
	appendStringInfoString(out, "ET Q\n");
}

static void
put_image(DsocrPdf *pdf, int number, const DsocrPdfImage *image)
{
	StringInfoData entries;

	initStringInfo(&entries);
	appendStringInfo(&entries,
					 "/Type /XObject /Subtype /Image /Width %d /Height %d /BitsPerComponent %d "
					 "/ColorSpace %s",
					 image->width, image->height, image->bits,
					 image->channels == 3 ? "/DeviceRGB" : "/DeviceGray");
	if (image->jpeg)
		appendStringInfoString(&entries, " /Filter /DCTDecode");
	else
		appendStringInfo(&entries,
						 " /Filter /FlateDecode /DecodeParms << /Predictor 15 /Colors %d "
						 "/BitsPerComponent %d /Columns %d >>",
						 image->channels, image->bits, image->width);
	put_stream(pdf, number, entries.data, image->parts, image->n_parts);
	pfree(entries.data);
}

static void
put_page(DsocrPdf *pdf, double w, double h, int rotation, const char *resources, int content)
{
	int page = new_object(pdf);

	if (pdf->n_pages == pdf->page_capacity)
	{
		pdf->page_capacity *= 2;
		pdf->pages = repalloc(pdf->pages, sizeof(uint32) * pdf->page_capacity);
	}
	pdf->pages[pdf->n_pages++] = page;
	begin_object(pdf, page);
	appendStringInfo(&pdf->out, "<< /Type /Page /Parent %d 0 R /MediaBox [0 0 %.4f %.4f] ",
					 OBJECT_PAGES, w, h);
	if (rotation != 0)
		appendStringInfo(&pdf->out, "/Rotate %d ", rotation);
	appendStringInfo(&pdf->out, "/Resources << %s >> /Contents %d 0 R >>\nendobj\n", resources,
					 content);
}

void
dsocr_pdf_add_page(DsocrPdf *pdf, const DsocrPdfImage *image, const DsocrLayoutPage *layout,
				   double w, double h)
{
	bool text = layout != NULL && layout->width > 0 && layout->height > 0;
	double shrink = Min(1, MAX_SIDE / Max(w, h));
	int content = new_object(pdf);
	int picture = new_object(pdf);
	MemoryContext work =
		AllocSetContextCreate(CurrentMemoryContext, "dsocr PDF page", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(work);
	StringInfoData out;

	w = Max(w * shrink, MIN_SIDE);
	h = Max(h * shrink, MIN_SIDE);
	initStringInfo(&out);
	appendStringInfo(&out, "q %.4f 0 0 %.4f 0 0 cm /I Do Q\n", w, h);
	if (text)
		put_text(pdf, &out, layout, w, h);
	put_buffer(pdf, content, "", &out);
	put_image(pdf, picture, image);
	put_page(pdf, w, h, text ? layout->rotation : 0,
			 psprintf("/XObject << /I %d 0 R >> /Font << /T %d 0 R >>", picture, OBJECT_FONT),
			 content);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(work);
}

void
dsocr_pdf_add_notice(DsocrPdf *pdf, const char *notice)
{
	int content = new_object(pdf);
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoString(&out, "BT /H 11 Tf 40 780 Td (");
	for (const char *p = notice; *p != '\0'; p++)
	{
		if (*p == '(' || *p == ')' || *p == '\\')
			appendStringInfoChar(&out, '\\');
		appendStringInfoChar(&out, *p >= ' ' && *p < 0x7f ? *p : '?');
	}
	appendStringInfoString(&out, ") Tj ET\n");
	put_buffer(pdf, content, "", &out);
	put_page(pdf, 595, 842, 0, psprintf("/Font << /H %d 0 R >>", OBJECT_HELVETICA), content);
	pfree(out.data);
}

/* ---- the end of the file ---- */

static void
put_object(DsocrPdf *pdf, int number, const char *body)
{
	make_room(pdf, strlen(body));
	begin_object(pdf, number);
	appendStringInfoString(&pdf->out, body);
	appendStringInfoString(&pdf->out, "\nendobj\n");
}

static void
put_font(DsocrPdf *pdf)
{
	StringInfoData b;

	initStringInfo(&b);
	dsocr_pdf_font_program(&b);
	put_buffer(pdf, OBJECT_FONT_PROGRAM, psprintf("/Length1 %d", b.len), &b);
	resetStringInfo(&b);
	dsocr_pdf_font_glyphs(pdf->font, &b);
	put_buffer(pdf, OBJECT_FONT_GLYPHS, "", &b);
	resetStringInfo(&b);
	dsocr_pdf_font_to_unicode(pdf->font, &b);
	put_buffer(pdf, OBJECT_FONT_UNICODE, "", &b);
	put_object(pdf, OBJECT_FONT,
			   psprintf("<< /Type /Font /Subtype /Type0 /BaseFont /Invisible /Encoding "
						"/Identity-H /DescendantFonts [%d 0 R] /ToUnicode %d 0 R >>",
						OBJECT_CID_FONT, OBJECT_FONT_UNICODE));
	resetStringInfo(&b);
	appendStringInfo(&b,
					 "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Invisible /CIDSystemInfo << "
					 "/Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /FontDescriptor %d 0 "
					 "R /CIDToGIDMap %d 0 R /DW 500 /W ",
					 OBJECT_FONT_DESCRIPTOR, OBJECT_FONT_GLYPHS);
	dsocr_pdf_font_widths(pdf->font, &b);
	appendStringInfoString(&b, " >>");
	put_object(pdf, OBJECT_CID_FONT, b.data);
	put_object(pdf, OBJECT_FONT_DESCRIPTOR,
			   psprintf("<< /Type /FontDescriptor /FontName /Invisible /Flags 4 /FontBBox [0 -200 "
						"1000 800] /ItalicAngle 0 /Ascent 800 /Descent -200 /CapHeight 700 /StemV "
						"80 /FontFile2 %d 0 R >>",
						OBJECT_FONT_PROGRAM));
	put_object(pdf, OBJECT_HELVETICA,
			   "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>");
	pfree(b.data);
}

static void
put_index(DsocrPdf *pdf)
{
	uint32 start = pdf->out.len - VARHDRSZ;

	make_room(pdf, (size_t) pdf->n_objects * 20);
	appendStringInfo(&pdf->out, "xref\n0 %d\n0000000000 65535 f \n", pdf->n_objects);
	for (int i = 1; i < pdf->n_objects; i++)
		appendStringInfo(&pdf->out, "%010u 00000 n \n", pdf->places[i]);
	appendStringInfo(&pdf->out,
					 "trailer\n<< /Size %d /Root %d 0 R /Info %d 0 R >>\nstartxref\n%u\n%%%%EOF\n",
					 pdf->n_objects, OBJECT_CATALOG, OBJECT_INFO, start);
}

bytea *
dsocr_pdf_finish(DsocrPdf *pdf)
{
	MemoryContext caller = MemoryContextSwitchTo(pdf->context);
	StringInfoData kids;
	bytea *file;

	initStringInfo(&kids);
	appendStringInfoString(&kids, "<< /Type /Pages /Kids [");
	for (int i = 0; i < pdf->n_pages; i++)
		appendStringInfo(&kids, "%u 0 R%c", pdf->pages[i], i % 16 == 15 ? '\n' : ' ');
	appendStringInfo(&kids, "] /Count %d >>", pdf->n_pages);
	put_object(pdf, OBJECT_PAGES, kids.data);
	put_object(pdf, OBJECT_CATALOG, psprintf("<< /Type /Catalog /Pages %d 0 R >>", OBJECT_PAGES));
	put_object(pdf, OBJECT_INFO, "<< /Producer (dsocr " DSOCR_VERSION ") >>");
	put_font(pdf);
	put_index(pdf);
	file = (bytea *) pdf->out.data;
	SET_VARSIZE(file, pdf->out.len);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(pdf->context);
	return file;
}
