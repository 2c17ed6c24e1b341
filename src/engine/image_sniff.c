/*-------------------------------------------------------------------------
 *
 * image_sniff.c
 *		What some bytes are, by their content, and where a TIFF has its pages.
 *
 * The directories of a TIFF form a chain of offsets that a hostile file can
 * close to a ring, or let overlap.  A ring is found by Brent's method, which
 * needs no memory.  Directories of a sound file do not overlap, so that all
 * of them together are no longer than the file: a walk ends where that is
 * passed.
 *
 *-------------------------------------------------------------------------
 */
#include "image_sniff.h"

#include <string.h>

#define TAG_NEW_SUBFILE_TYPE 254
#define TAG_OLD_SUBFILE_TYPE 255

/* Bits of the newer tag. */
#define SUBFILE_REDUCED 1
#define SUBFILE_MASK 4

/* The only value of the older tag that is no page. */
#define OLD_SUBFILE_REDUCED 2

#define TYPE_SHORT 3
#define TYPE_LONG 4
#define TYPE_LONG8 16

/* Entries of a directory: libtiff takes more for damage. */
#define MAX_ENTRIES 4096

/* What viewers accept in front of a PDF. */
#define PDF_SEARCH 1024

typedef struct Signature
{
	DsocrFormat format;
	uint8_t offset;
	uint8_t len;
	const char *bytes;
} Signature;

static const Signature signatures[] = {
	{DSOCR_FORMAT_PNG, 0, 8, "\x89PNG\r\n\x1a\n"},
	{DSOCR_FORMAT_JPEG, 0, 3, "\xff\xd8\xff"},
	{DSOCR_FORMAT_TIFF, 0, 4, "II*\0"},
	{DSOCR_FORMAT_TIFF, 0, 4, "MM\0*"},
	{DSOCR_FORMAT_TIFF, 0, 4, "II+\0"},
	{DSOCR_FORMAT_TIFF, 0, 4, "MM\0+"},
	{DSOCR_FORMAT_GIF, 0, 4, "GIF8"},
	{DSOCR_FORMAT_BMP, 0, 2, "BM"},
	{DSOCR_FORMAT_JPEG2000, 0, 8, "\0\0\0\fjP  "},
	{DSOCR_FORMAT_JPEG2000, 0, 4, "\xff\x4f\xff\x51"},
	{DSOCR_FORMAT_HEIF, 4, 4, "ftyp"},
};

static const char *const names[DSOCR_N_FORMATS] = {NULL,  "PNG", "JPEG", "WebP",	  "TIFF", "PNM",
												   "PDF", "GIF", "BMP",	 "JPEG 2000", "HEIF"};

static bool
is_blank(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
is_pdf(const uint8_t *bytes, size_t len)
{
	size_t end = len < PDF_SEARCH ? len : PDF_SEARCH;

	for (size_t at = 0; at + 5 <= end; at++)
		if (memcmp(bytes + at, "%PDF-", 5) == 0)
			return true;
	return false;
}

DsocrFormat
dsocr_image_sniff(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++)
	{
		const Signature *s = &signatures[i];

		if (len >= (size_t) s->offset + s->len && memcmp(bytes + s->offset, s->bytes, s->len) == 0)
			return s->format;
	}
	if (len >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
		return DSOCR_FORMAT_WEBP;
	if (len >= 3 && bytes[0] == 'P' && (bytes[1] == '5' || bytes[1] == '6') &&
		(is_blank(bytes[2]) || bytes[2] == '#'))
		return DSOCR_FORMAT_PNM;
	return is_pdf(bytes, len) ? DSOCR_FORMAT_PDF : DSOCR_FORMAT_UNKNOWN;
}

const char *
dsocr_format_name(DsocrFormat format)
{
	return format < DSOCR_N_FORMATS ? names[format] : NULL;
}

/* ---- directories of a TIFF ---- */

typedef struct Tiff
{
	const uint8_t *bytes;
	size_t len;
	bool big_endian;
	bool big; /* BigTIFF: numbers of eight bytes where there were four or two */
} Tiff;

/* A directory, its extent checked against the file. */
typedef struct Directory
{
	uint64_t entries;
	uint64_t size;	/* bytes, with the count and the offset of the next */
	uint64_t first; /* offset of its first entry */
	uint64_t next;	/* offset of the next one, 0 at the end of the chain */
} Directory;

static uint64_t
number(const Tiff *t, uint64_t at, int size)
{
	uint64_t v = 0;

	for (int i = 0; i < size; i++)
		v = v << 8 | t->bytes[at + (uint64_t) (t->big_endian ? i : size - 1 - i)];
	return v;
}

/* False when the file is no TIFF; *first is the offset of its first directory. */
static bool
tiff_open(Tiff *t, const uint8_t *bytes, size_t len, uint64_t *first)
{
	*t = (Tiff){.bytes = bytes, .len = len};
	if (len < 8 || dsocr_image_sniff(bytes, len) != DSOCR_FORMAT_TIFF)
		return false;
	t->big_endian = bytes[0] == 'M';
	t->big = number(t, 2, 2) == 43;
	if (t->big && (len < 16 || number(t, 4, 2) != 8))
		return false;
	*first = t->big ? number(t, 8, 8) : number(t, 4, 4);
	return true;
}

static bool
read_directory(const Tiff *t, uint64_t at, Directory *d)
{
	uint64_t head = t->big ? 8 : 2;
	uint64_t entry = t->big ? 20 : 12;
	uint64_t tail = t->big ? 8 : 4;
	uint64_t left;

	if (at == 0 || at > t->len || t->len - at < head)
		return false;
	left = t->len - at - head;
	d->entries = number(t, at, (int) head);
	if (d->entries == 0 || d->entries > MAX_ENTRIES || d->entries > left / entry)
		return false;
	d->first = at + head;
	left -= d->entries * entry;
	/* the last one of a file that ends too early may still be readable */
	d->next = left >= tail ? number(t, d->first + d->entries * entry, (int) tail) : 0;
	d->size = head + d->entries * entry + tail;
	return true;
}

/* An entry of a directory: a tag and where its values are. */
typedef struct Entry
{
	uint64_t tag;
	uint64_t type;
	uint64_t size;	/* bytes of all values; UINT64_MAX when they are not within the file */
	uint64_t value; /* offset of the first one */
} Entry;

/* Bytes of one value; types that are not known count as one byte, as libtiff does. */
static uint64_t
type_size(uint64_t type)
{
	static const uint8_t sizes[] = {1, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 1, 1, 8, 8, 8};

	return type < sizeof(sizes) ? sizes[type] : 1;
}

static Entry
read_entry(const Tiff *t, const Directory *d, uint64_t i)
{
	uint64_t at = d->first + i * (t->big ? 20 : 12);
	int word = t->big ? 8 : 4;
	uint64_t count = number(t, at + 4, word);
	Entry e = {.tag = number(t, at, 2), .type = number(t, at + 2, 2)};
	uint64_t unit = type_size(e.type);

	e.size = count > UINT64_MAX / 2 / unit ? UINT64_MAX : count * unit;
	e.value = at + 4 + (uint64_t) word;
	if (e.size <= (uint64_t) word)
		return e;
	e.value = number(t, e.value, word);
	if (e.value > t->len || t->len - e.value < e.size)
		e.size = UINT64_MAX;
	return e;
}

/* The first value as an unsigned integer. */
static bool
entry_value(const Tiff *t, const Entry *e, uint64_t *value)
{
	if (e->type != TYPE_SHORT && e->type != TYPE_LONG && e->type != TYPE_LONG8)
		return false;
	if (e->size == UINT64_MAX || e->size < type_size(e->type))
		return false;
	*value = number(t, e->value, (int) type_size(e->type));
	return true;
}

/* A smaller copy of another page, or a mask of it. */
static bool
is_secondary(const Tiff *t, const Directory *d)
{
	for (uint64_t i = 0; i < d->entries; i++)
	{
		Entry e = read_entry(t, d, i);
		uint64_t value = 0;

		if (e.tag != TAG_NEW_SUBFILE_TYPE && e.tag != TAG_OLD_SUBFILE_TYPE)
			continue;
		if (!entry_value(t, &e, &value))
			return false;
		if (e.tag == TAG_NEW_SUBFILE_TYPE)
			return (value & (SUBFILE_REDUCED | SUBFILE_MASK)) != 0;
		return value == OLD_SUBFILE_REDUCED;
	}
	return false;
}

/* Offset of the directory behind the one at this offset; 0 when there is none. */
static uint64_t
follow(const Tiff *t, uint64_t at)
{
	Directory d;

	return read_directory(t, at, &d) ? d.next : 0;
}

/*
 * Directories of the chain that begins at first, each counted once.  Brent:
 * the hare runs ahead of the turtle, which jumps to it at powers of two; when
 * they meet, the ring is as long as the hare has run since.
 */
static int
chain_length(const Tiff *t, uint64_t first)
{
	uint64_t left = t->len; /* a ring is passed at most four times */
	uint64_t turtle = first;
	uint64_t hare = first;
	uint64_t lead = first;
	int power = 1;
	int ring = 0;
	int n = 0;
	bool closed = false;
	Directory d;

	left = left > UINT64_MAX / 4 ? UINT64_MAX : 4 * left;
	while (!closed && n < 4 * DSOCR_TIFF_MAX_PAGES && read_directory(t, hare, &d) && d.size <= left)
	{
		left -= d.size;
		n++;
		if (ring == power)
		{
			turtle = hare;
			power *= 2;
			ring = 0;
		}
		ring++;
		hare = d.next;
		closed = hare == turtle;
	}
	if (!closed)
		return n;
	/* two walkers a ring apart meet where it begins */
	n = ring;
	while (ring-- > 0)
		lead = follow(t, lead);
	for (turtle = first; lead != turtle; n++)
	{
		lead = follow(t, lead);
		turtle = follow(t, turtle);
	}
	return n;
}

/*
 * Walk the pages.  Stops at the given page (from 1) and leaves its offset;
 * returns how many pages there were up to there.
 */
static int
walk_pages(const uint8_t *bytes, size_t len, int page, uint64_t *offset)
{
	Tiff t;
	Directory d;
	uint64_t at;
	int left;
	int pages = 0;

	*offset = 0;
	if (!tiff_open(&t, bytes, len, &at))
		return 0;
	for (left = chain_length(&t, at); left > 0 && pages < page; left--, at = d.next)
	{
		if (!read_directory(&t, at, &d))
			break;
		/* a file of nothing but copies has its first one as its page */
		if (pages > 0 && is_secondary(&t, &d))
			continue;
		pages++;
		*offset = at;
	}
	return pages;
}

bool
dsocr_tiff_has_pages(const uint8_t *bytes, size_t len)
{
	uint64_t offset;

	return walk_pages(bytes, len, 2, &offset) == 2;
}

int
dsocr_tiff_count_pages(const uint8_t *bytes, size_t len)
{
	uint64_t offset;

	return walk_pages(bytes, len, DSOCR_TIFF_MAX_PAGES + 1, &offset);
}

uint64_t
dsocr_tiff_page_offset(const uint8_t *bytes, size_t len, int page)
{
	uint64_t offset;

	if (page < 1 || walk_pages(bytes, len, page, &offset) < page)
		return 0;
	return offset;
}

/* False when there is no directory at this offset. */
static bool
open_directory(Tiff *t, Directory *d, const uint8_t *bytes, size_t len, uint64_t offset)
{
	uint64_t first;

	return tiff_open(t, bytes, len, &first) && read_directory(t, offset, d);
}

bool
dsocr_tiff_directory_fits(const uint8_t *bytes, size_t len, uint64_t offset)
{
	Tiff t;
	Directory d;
	uint64_t left = len;

	if (!open_directory(&t, &d, bytes, len, offset))
		return false;
	for (uint64_t i = 0; i < d.entries; i++)
	{
		Entry e = read_entry(&t, &d, i);

		if (e.size > left)
			return false;
		left -= e.size;
	}
	return true;
}

bool
dsocr_tiff_value(const uint8_t *bytes, size_t len, uint64_t offset, int tag, uint64_t *value)
{
	Tiff t;
	Directory d;

	if (!open_directory(&t, &d, bytes, len, offset))
		return false;
	for (uint64_t i = 0; i < d.entries; i++)
	{
		Entry e = read_entry(&t, &d, i);

		if (e.tag == (uint64_t) tag)
			return entry_value(&t, &e, value);
	}
	return false;
}
