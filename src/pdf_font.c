/*-------------------------------------------------------------------------
 *
 * pdf_font.c
 *		A font of invisible letters: any character, no shapes.
 *
 * Text that is never painted needs no shapes, only widths and what it means.
 * Characters get numbers in the order of their first use, so that every one
 * of Unicode can be had, those beyond the first plane too, and a ToUnicode
 * map says which they are.  The font program is a TrueType font made here: one
 * empty glyph for each class of widths.
 *
 *-------------------------------------------------------------------------
 */
#include "pdf_font.h"

#include "text_width.h"

#define MAX_CODES 65535
#define CODES_PER_LEAF 256
#define N_LEAVES (0x110000 / CODES_PER_LEAF)

/* GID 0 is .notdef, the classes of widths follow. */
#define N_GLYPHS (1 + DSOCR_N_WIDTHS)

struct DsocrPdfFont
{
	uint16 *leaves[N_LEAVES]; /* code of a character, 0 = none yet */
	pg_wchar *characters;	  /* of a code */
	int n;
	int capacity;
};

DsocrPdfFont *
dsocr_pdf_font_create(void)
{
	DsocrPdfFont *font = palloc0(sizeof(DsocrPdfFont));

	font->capacity = 256;
	font->characters = palloc0(sizeof(pg_wchar) * font->capacity);
	font->n = 1; /* code 0 stands for what is missing */
	return font;
}

uint16
dsocr_pdf_font_code(DsocrPdfFont *font, pg_wchar c)
{
	MemoryContext owner = GetMemoryChunkContext(font);
	uint16 **leaf;
	uint16 *code;

	if (c > 0x10ffff)
		c = 0xfffd;
	leaf = &font->leaves[c / CODES_PER_LEAF];
	if (*leaf == NULL)
		*leaf = MemoryContextAllocZero(owner, sizeof(uint16) * CODES_PER_LEAF);
	code = &(*leaf)[c % CODES_PER_LEAF];
	if (*code == 0)
	{
		if (font->n > MAX_CODES)
			return c == 0xfffd ? 0 : dsocr_pdf_font_code(font, 0xfffd);
		if (font->n == font->capacity)
		{
			font->capacity *= 2;
			font->characters = repalloc(font->characters, sizeof(pg_wchar) * font->capacity);
		}
		font->characters[font->n] = c;
		*code = font->n++;
	}
	return *code;
}

/* ---- what PDF wants to know of it ---- */

void
dsocr_pdf_font_glyphs(const DsocrPdfFont *font, StringInfo out)
{
	for (int i = 0; i < font->n; i++)
	{
		appendStringInfoChar(out, 0);
		appendStringInfoChar(out, i == 0 ? 0 : 1 + dsocr_text_width_class(font->characters[i]));
	}
}

void
dsocr_pdf_font_widths(const DsocrPdfFont *font, StringInfo out)
{
	appendStringInfoString(out, "[1 [");
	for (int i = 1; i < font->n; i++)
		appendStringInfo(out, "%d%c",
						 dsocr_text_widths[dsocr_text_width_class(font->characters[i])],
						 i % 20 == 0 ? '\n' : ' ');
	appendStringInfoString(out, "]]");
}

void
dsocr_pdf_font_to_unicode(const DsocrPdfFont *font, StringInfo out)
{
	appendStringInfoString(out, "/CIDInit /ProcSet findresource begin\n"
								"12 dict begin\n"
								"begincmap\n"
								"/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) "
								"/Supplement 0 >> def\n"
								"/CMapName /Adobe-Identity-UCS def\n"
								"/CMapType 2 def\n"
								"1 begincodespacerange\n"
								"<0000> <FFFF>\n"
								"endcodespacerange\n");
	for (int i = 1; i < font->n; i++)
	{
		pg_wchar c = font->characters[i];

		if (i % 100 == 1)
			appendStringInfo(out, "%d beginbfchar\n", Min(100, font->n - i));
		if (c < 0x10000)
			appendStringInfo(out, "<%04X> <%04X>\n", i, (unsigned) c);
		else
			appendStringInfo(out, "<%04X> <%04X%04X>\n", i,
							 (unsigned) (0xd800 + ((c - 0x10000) >> 10)),
							 (unsigned) (0xdc00 + ((c - 0x10000) & 0x3ff)));
		if (i % 100 == 0 || i == font->n - 1)
			appendStringInfoString(out, "endbfchar\n");
	}
	appendStringInfoString(out, "endcmap\n"
								"CMapName currentdict /CMap defineresource pop\n"
								"end\n"
								"end\n");
}

/* ---- the font program ---- */

static void
put16(StringInfo out, int value)
{
	appendStringInfoChar(out, (char) (value >> 8 & 0xff));
	appendStringInfoChar(out, (char) (value & 0xff));
}

static void
put32(StringInfo out, uint32 value)
{
	put16(out, (int) (value >> 16));
	put16(out, (int) (value & 0xffff));
}

static void
put_words(StringInfo out, const int *words, int n)
{
	for (int i = 0; i < n; i++)
		put16(out, words[i]);
}

static uint32
checksum(const char *bytes, int len)
{
	uint32 sum = 0;

	for (int i = 0; i < len; i++)
		sum += (uint32) (unsigned char) bytes[i] << (24 - 8 * (i % 4));
	return sum;
}

/* Units per em 1000; ascender 800, descender -200; flags and dates of no meaning. */
static void
put_table(StringInfo out, int table)
{
	static const int glyf[] = {0, 0};
	static const int head[] = {1, 0, 1, 0, 0, 0,	0x5f0f, 0x3cf5, 0, 1000, 0, 0, 0, 0,
							   0, 0, 0, 0, 0, -200, 1000,	800,	0, 8,	 2, 0, 0};
	static const int hhea[] = {1, 0, 800, -200, 0, 1000, 0, 0, 1000,
							   1, 0, 0,	  0,	0, 0,	 0, 0, N_GLYPHS};
	static const int maxp[] = {1, 0, N_GLYPHS, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0};

	switch (table)
	{
		case 0:
			put_words(out, glyf, lengthof(glyf));
			break;
		case 1:
			put_words(out, head, lengthof(head));
			break;
		case 2:
			put_words(out, hhea, lengthof(hhea));
			break;
		case 3:
			put_words(out, (int[]){500, 0}, 2);
			for (int i = 0; i < DSOCR_N_WIDTHS; i++)
				put_words(out, (int[]){dsocr_text_widths[i], 0}, 2);
			break;
		case 4:
			for (int i = 0; i <= N_GLYPHS; i++)
				put16(out, 0);
			break;
		default:
			put_words(out, maxp, lengthof(maxp));
			break;
	}
}

void
dsocr_pdf_font_program(StringInfo out)
{
	static const char *const names[] = {"glyf", "head", "hhea", "hmtx", "loca", "maxp"};
	int start = out->len;
	int head_at = 0;
	StringInfoData tables;
	uint32 sum;

	initStringInfo(&tables);
	put_words(out, (int[]){1, 0, lengthof(names), 64, 2, lengthof(names) * 16 - 64}, 6);
	for (int i = 0; i < (int) lengthof(names); i++)
	{
		int at = tables.len;
		int len;

		put_table(&tables, i);
		len = tables.len - at;
		while (tables.len % 4 != 0)
			appendStringInfoChar(&tables, 0);
		if (i == 1)
			head_at = at;
		appendBinaryStringInfo(out, names[i], 4);
		put32(out, checksum(tables.data + at, len));
		put32(out, 12 + 16 * lengthof(names) + at);
		put32(out, len);
	}
	appendBinaryStringInfo(out, tables.data, tables.len);
	sum = 0xb1b0afba - checksum(out->data + start, out->len - start);
	for (int i = 0; i < 4; i++)
		out->data[start + 12 + 16 * lengthof(names) + head_at + 8 + i] =
			(char) (sum >> (24 - 8 * i));
	pfree(tables.data);
}
