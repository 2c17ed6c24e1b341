/*-------------------------------------------------------------------------
 *
 * inputs_tiff_bad.c
 *		TIFF files written by hand: damaged, contradictory, hostile.
 *
 *-------------------------------------------------------------------------
 */
#include "inputs.h"

#include <string.h>

#include "../reference/make_image.h"

#define PIXELS (IN_WIDTH * IN_HEIGHT)
#define MAX_TAGS 16

typedef struct Tag
{
	int tag;
	int type; /* 3 SHORT, 4 LONG */
	uint32_t count;
	uint32_t value; /* or the offset of the values */
} Tag;

static void
le16(DsocrBuffer *b, uint32_t v)
{
	mk_bytes(b, &(uint8_t[2]){(uint8_t) v, (uint8_t) (v >> 8)}, 2);
}

static void
le32(DsocrBuffer *b, uint32_t v)
{
	le16(b, v & 0xffff);
	le16(b, v >> 16);
}

static void
put32(DsocrBuffer *b, size_t at, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		b->data[at + (size_t) i] = (char) (v >> (8 * i));
}

/* The header; the directory comes last. */
static void
begin(DsocrBuffer *b)
{
	mk_bytes(b, "II*\0\0\0\0\0", 8);
}

/* A directory behind what is there; link: offset of who points to it. */
static size_t
directory(DsocrBuffer *b, size_t link, const Tag *tags, int n)
{
	put32(b, link, (uint32_t) b->len);
	le16(b, (uint32_t) n);
	for (int i = 0; i < n; i++)
	{
		le16(b, (uint32_t) tags[i].tag);
		le16(b, (uint32_t) tags[i].type);
		le32(b, tags[i].count);
		le32(b, tags[i].value);
	}
	le32(b, 0);
	return b->len - 4;
}

/* Gray of 8 bits in one strip. */
static size_t
gray(DsocrBuffer *b, size_t link, uint32_t width, uint32_t height, uint32_t at, uint32_t len)
{
	const Tag tags[] = {{256, 4, 1, width}, {257, 4, 1, height}, {258, 3, 1, 8},
						{259, 3, 1, 1},		{262, 3, 1, 1},		 {273, 4, 1, at},
						{277, 3, 1, 1},		{278, 4, 1, height}, {279, 4, 1, len}};

	return directory(b, link, tags, 9);
}

static uint32_t
pixels(DsocrBuffer *b)
{
	uint8_t samples[PIXELS];
	uint32_t at = (uint32_t) b->len;

	in_picture(samples, 1);
	mk_bytes(b, samples, PIXELS);
	return at;
}

/* The compression that nobody could write twice the same way: a JPEG, pointed to. */
static void
make_old_jpeg(DsocrBuffer *out, int arg)
{
	DsocrBuffer jpeg = {0};
	uint32_t len;

	in_baseline(&jpeg);
	len = (uint32_t) jpeg.len;
	begin(out);
	mk_bytes(out, jpeg.data, jpeg.len);
	le32(out, 8 | 8 << 16); /* 8, 8, 8 bits */
	le32(out, 8);
	le32(out, 1 | 1 << 16); /* no subsampling */
	{
		const Tag tags[] = {{256, 4, 1, IN_WIDTH},	 {257, 4, 1, IN_HEIGHT}, {258, 3, 3, 8 + len},
							{259, 3, 1, 6},			 {262, 3, 1, 6},		 {273, 4, 1, 8},
							{277, 3, 1, 3},			 {278, 4, 1, IN_HEIGHT}, {279, 4, 1, len},
							{512, 3, 1, 1},			 {513, 4, 1, 8},		 {514, 4, 1, len},
							{530, 3, 2, 1 | 1 << 16}};

		directory(out, 4, tags, 13);
	}
	dsocr_buffer_free(&jpeg);
}

/* The next directory is the first one. */
static void
make_loop(DsocrBuffer *out, int arg)
{
	size_t link;
	uint32_t first;

	begin(out);
	first = pixels(out);
	link = gray(out, 4, IN_WIDTH, IN_HEIGHT, first, PIXELS);
	memcpy(out->data + link, out->data + 4, 4);
}

/* A strip of one pixel for each row of a column. */
static void
make_column(DsocrBuffer *out, int rows)
{
	uint32_t at;

	begin(out);
	for (int i = 0; i < rows; i++)
		mk_bytes(out, "\xff", 1);
	at = (uint32_t) out->len;
	for (int i = 0; i < rows; i++)
		le32(out, 8 + (uint32_t) i);
	for (int i = 0; i < rows; i++)
		le32(out, 1);
	{
		const Tag tags[] = {{256, 4, 1, 1},
							{257, 4, 1, (uint32_t) rows},
							{258, 3, 1, 8},
							{259, 3, 1, 1},
							{262, 3, 1, 1},
							{273, 4, (uint32_t) rows, at},
							{277, 3, 1, 1},
							{278, 4, 1, 1},
							{279, 4, (uint32_t) rows, at + 4 * (uint32_t) rows}};

		directory(out, 4, tags, 9);
	}
}

/* Private tags by the thousand, each claiming much. */
static void
make_flood(DsocrBuffer *out, int n)
{
	uint32_t at;
	size_t end;

	begin(out);
	at = pixels(out);
	end = gray(out, 4, IN_WIDTH, IN_HEIGHT, at, PIXELS);
	out->len = end;
	memcpy(out->data + end - 9 * 12 - 2, &(uint16_t){(uint16_t) (9 + n)}, 2);
	for (int i = 0; i < n; i++)
	{
		le16(out, 40000 + (uint32_t) i);
		le16(out, 4);
		le32(out, 0x10000000);
		le32(out, 8);
	}
	le32(out, 0);
}

/* The second of three pages points outside of the file. */
static void
make_bad_page(DsocrBuffer *out, int arg)
{
	size_t link = 4;
	uint32_t at;

	begin(out);
	at = pixels(out);
	for (int i = 0; i < 3; i++)
		link = gray(out, link, IN_WIDTH, IN_HEIGHT, i == 1 ? 0x7fffff00 : at, PIXELS);
}

/* A page, its thumbnail, and another page. */
static void
make_thumbnail(DsocrBuffer *out, int arg)
{
	size_t link = 4;
	uint32_t at;
	const Tag small[] = {{254, 4, 1, 1}, {256, 4, 1, 8}, {257, 4, 1, 6}, {258, 3, 1, 8},
						 {259, 3, 1, 1}, {262, 3, 1, 1}, {273, 4, 1, 8}, {277, 3, 1, 1},
						 {278, 4, 1, 6}, {279, 4, 1, 48}};

	begin(out);
	at = pixels(out);
	link = gray(out, link, IN_WIDTH, IN_HEIGHT, at, PIXELS);
	link = directory(out, link, small, 10);
	gray(out, link, IN_WIDTH, IN_HEIGHT, at, PIXELS);
}

enum
{
	CUT_STRIP,
	CUT_DIRECTORY,
	NO_DIRECTORY,
	HUGE,
	NO_SIZE,
	UNKNOWN
};

static void
make_bad(DsocrBuffer *out, int how)
{
	uint32_t at;

	begin(out);
	at = pixels(out);
	switch (how)
	{
		case CUT_STRIP:
			/* the data last, and half of it */
			out->len = 8;
			gray(out, 4, IN_WIDTH, IN_HEIGHT, 8 + 2 + 9 * 12 + 4, PIXELS);
			pixels(out);
			out->len -= PIXELS / 2;
			break;
		case CUT_DIRECTORY:
			gray(out, 4, IN_WIDTH, IN_HEIGHT, at, PIXELS);
			out->len -= 60;
			break;
		case NO_DIRECTORY:
			break;
		case HUGE:
			gray(out, 4, 60000, 60000, at, PIXELS);
			break;
		case NO_SIZE:
			gray(out, 4, 0, IN_HEIGHT, at, PIXELS);
			break;
		case UNKNOWN:
			gray(out, 4, IN_WIDTH, IN_HEIGHT, at, PIXELS);
			out->data[out->len - 4 - 6 * 12 + 8] = 99; /* compression */
			break;
	}
}

const Input in_tiff_bad[] = {
	{"old-jpeg.tif", "the JPEG of TIFF 6.0, given up since", IN_COLOUR, make_old_jpeg},
	{"column.tif", "2000 strips of one pixel", "1 x 2000: white", make_column, 2000},
	{"loop.tif", "the next directory is the first", IN_GRAY, make_loop},
	{"tag-flood.tif", "4000 private tags of 1 GB each", IN_REFUSED, make_flood, 4000},
	{"bad-page.tif", "3 pages, the data of the second outside of the file", "3 pages",
	 make_bad_page},
	{"thumbnail.tif", "a thumbnail between two pages", "2 pages, all " IN_GRAY, make_thumbnail},
	{"cut.tif", "half of the only strip missing", IN_REFUSED, make_bad, CUT_STRIP},
	{"cut-directory.tif", "ends in its directory", IN_REFUSED, make_bad, CUT_DIRECTORY},
	{"no-directory.tif", "no directory", IN_REFUSED, make_bad, NO_DIRECTORY},
	{"huge.tif", "claims 60000 x 60000", IN_REFUSED, make_bad, HUGE},
	{"no-width.tif", "0 pixels wide", IN_REFUSED, make_bad, NO_SIZE},
	{"unknown.tif", "compression 99", IN_REFUSED, make_bad, UNKNOWN},
	{0}};
