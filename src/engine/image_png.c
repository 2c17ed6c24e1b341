/*-------------------------------------------------------------------------
 *
 * image_png.c
 *		PNG to 8-bit RGB with libpng, converted as Pillow converts it.
 *
 * The chunks are walked here.  libpng is only shown those that make pixels
 * (IHDR, PLTE, IDAT), so compressed text, profiles and floods of chunks cost
 * nothing; and it is fed in push mode, because its pull mode inflates all that
 * follows the last row.  A deflate stream grows by at most 1032 : 1, so that a
 * picture which cannot be in the file is refused before its memory is taken.
 *
 * Alpha and tRNS are dropped, 16-bit gray is clipped at 255, other 16-bit
 * samples keep their high byte; gAMA, iCCP and the like are ignored.
 *
 *-------------------------------------------------------------------------
 */
#include "image_format.h"

#include <png.h>
#include <setjmp.h>
#include <string.h>
#include <zlib.h>

#define PNG_SIGNATURE 8
#define CHUNK_OVERHEAD 12 /* length, name, CRC */
#define DEFLATE_MAX_RATIO 1032

/* Pixels between two polls. */
#define POLL_PIXELS 65536

/* Text that may hold an orientation is inflated up to this, as in Pillow. */
#define TEXT_MAX (1024 * 1024)

#define CHUNK_NAME(a, b, c, d)                                                                     \
	((uint32_t) (a) << 24 | (uint32_t) (b) << 16 | (uint32_t) (c) << 8 | (uint32_t) (d))

/* A piece of the file: the data of a chunk, or of the text in it. */
typedef struct Span
{
	const uint8_t *data; /* NULL when absent */
	size_t len;
	bool deflated;
} Span;

typedef struct PngFile
{
	uint32_t width;
	uint32_t height;
	int depth;
	int color;
	bool interlaced;
	Span palette;
	Span exif;			 /* TIFF structure */
	Span raw_profile;	 /* hex dump of one */
	Span xmp;			 /* XMP packet */
	const uint8_t *idat; /* first of the consecutive IDAT chunks, length field first */
	size_t idat_span;	 /* bytes of these chunks in the file */
	uint64_t idat_bytes; /* bytes of compressed data in them */
} PngFile;

typedef struct PngChunk
{
	uint32_t name;
	const uint8_t *start; /* length field */
	const uint8_t *data;
	size_t len;
} PngChunk;

static bool
truncated(DsocrError *err)
{
	return dsocr_fail(err, DSOCR_E_IMAGE, "PNG image is truncated");
}

static bool
is_chunk_name(const uint8_t *p)
{
	for (int i = 0; i < 4; i++)
		if (!((p[i] >= 'A' && p[i] <= 'Z') || (p[i] >= 'a' && p[i] <= 'z')))
			return false;
	return true;
}

/* The chunk at *at; moves *at behind it. */
static bool
next_chunk(const uint8_t *bytes, size_t len, size_t *at, bool check_crc, PngChunk *chunk,
		   DsocrError *err)
{
	size_t left = len - *at;

	if (left < CHUNK_OVERHEAD)
		return truncated(err);
	chunk->start = bytes + *at;
	chunk->len = dsocr_be32(chunk->start);
	chunk->name = dsocr_be32(chunk->start + 4);
	chunk->data = chunk->start + 8;
	if (!is_chunk_name(chunk->start + 4))
		return dsocr_fail(err, DSOCR_E_IMAGE, "PNG image is damaged: invalid chunk name");
	if (chunk->len > left - CHUNK_OVERHEAD)
		return truncated(err);
	if (check_crc)
	{
		uint32_t crc = (uint32_t) crc32_z(0, chunk->start + 4, chunk->len + 4);

		if (crc != dsocr_be32(chunk->data + chunk->len))
			return dsocr_fail(err, DSOCR_E_IMAGE, "PNG image is damaged: wrong checksum in %.4s",
							  (const char *) chunk->start + 4);
	}
	*at += chunk->len + CHUNK_OVERHEAD;
	return true;
}

static bool
read_ihdr(const PngChunk *chunk, uint64_t max_pixels, PngFile *png, DsocrError *err)
{
	/* allowed bit depths of each color type, as a set of bits */
	static const uint32_t depths[] = {0x10116, 0, 0x10100, 0x116, 0x10100, 0, 0x10100};
	const uint8_t *p = chunk->data;

	if (chunk->name != CHUNK_NAME('I', 'H', 'D', 'R') || chunk->len != 13)
		return dsocr_fail(err, DSOCR_E_IMAGE, "PNG image has no valid header");
	png->width = dsocr_be32(p);
	png->height = dsocr_be32(p + 4);
	png->depth = p[8];
	png->color = p[9];
	png->interlaced = p[12] == 1;
	if (png->color > 6 || png->depth > 16 || (depths[png->color] >> png->depth & 1) == 0)
		return dsocr_fail(err, DSOCR_E_IMAGE,
						  "PNG image has an invalid combination of color type %d and bit depth %d",
						  png->color, png->depth);
	if (p[10] != 0 || p[11] != 0 || p[12] > 1)
		return dsocr_fail(err, DSOCR_E_IMAGE,
						  "PNG image has an unknown compression, filter or interlace method");
	return dsocr_image_check_size("PNG", png->width, png->height, DSOCR_PNG_MAX_SIDE, max_pixels,
								  err);
}

/* Text chunks: only keys that can carry an orientation are looked at. */
static void
note_text(PngFile *png, const PngChunk *chunk)
{
	const uint8_t *p = chunk->data;
	const uint8_t *end = p + chunk->len;
	const uint8_t *nul = memchr(p, 0, chunk->len);
	Span text = {0};
	const char *key = (const char *) p;

	if (nul == NULL)
		return;
	p = nul + 1;
	if (chunk->name == CHUNK_NAME('z', 'T', 'X', 't'))
	{
		if (p == end || *p++ != 0)
			return;
		text.deflated = true;
	}
	else if (chunk->name == CHUNK_NAME('i', 'T', 'X', 't'))
	{
		if (end - p < 2 || (p[0] != 0 && p[1] != 0))
			return;
		text.deflated = p[0] != 0;
		p += 2;
		for (int i = 0; i < 2; i++) /* language, translated key */
		{
			p = memchr(p, 0, (size_t) (end - p));
			if (p == NULL)
				return;
			p++;
		}
	}
	text.data = p;
	text.len = (size_t) (end - p);
	if (strcmp(key, "XML:com.adobe.xmp") == 0)
		png->xmp = text;
	else if (strcmp(key, "Raw profile type exif") == 0)
		png->raw_profile = text;
	else if (strcmp(key, "exif") == 0 && chunk->name == CHUNK_NAME('t', 'E', 'X', 't'))
		png->exif = text;
}

static bool
note_chunk(PngFile *png, const PngChunk *chunk, bool *idat_open, DsocrError *err)
{
	size_t size = chunk->len + CHUNK_OVERHEAD;
	bool idat = false;

	switch (chunk->name)
	{
		case CHUNK_NAME('I', 'H', 'D', 'R'):
			return dsocr_fail(err, DSOCR_E_IMAGE, "PNG image is damaged: second header");
		case CHUNK_NAME('P', 'L', 'T', 'E'):
			if (png->idat == NULL)
				png->palette = (Span){.data = chunk->data, .len = chunk->len};
			break;
		case CHUNK_NAME('I', 'D', 'A', 'T'):
			/* data behind another chunk belong to nothing, as in Pillow */
			if (png->idat != NULL && !*idat_open)
				break;
			if (png->idat == NULL)
				png->idat = chunk->start;
			png->idat_span += size;
			png->idat_bytes += chunk->len;
			idat = true;
			break;
		case CHUNK_NAME('e', 'X', 'I', 'f'):
			png->exif = (Span){.data = chunk->data, .len = chunk->len};
			break;
		case CHUNK_NAME('t', 'E', 'X', 't'):
		case CHUNK_NAME('z', 'T', 'X', 't'):
		case CHUNK_NAME('i', 'T', 'X', 't'):
			note_text(png, chunk);
			break;
	}
	*idat_open = idat;
	return true;
}

/*
 * Walk the file.  strict: up to IEND with all checksums, else only as far as
 * the chunks are sound and without looking at the data.
 */
static bool
read_chunks(const uint8_t *bytes, size_t len, uint64_t max_pixels, bool strict, PngFile *png,
			DsocrError *err)
{
	size_t at = PNG_SIGNATURE;
	bool idat_open = false;
	PngChunk chunk;

	memset(png, 0, sizeof(*png));
	/* size first: a header of absurd size is the more useful message */
	if (!next_chunk(bytes, len, &at, false, &chunk, err) ||
		!read_ihdr(&chunk, max_pixels, png, err))
		return false;
	at = PNG_SIGNATURE;
	if (!next_chunk(bytes, len, &at, true, &chunk, err))
		return false;
	for (;;)
	{
		if (!next_chunk(bytes, len, &at, strict, &chunk, strict ? err : NULL))
			return !strict;
		if (chunk.name == CHUNK_NAME('I', 'E', 'N', 'D'))
			return true;
		if (!note_chunk(png, &chunk, &idat_open, err))
			return false;
	}
}

/* Inflate at most TEXT_MAX bytes; 0 when there is more or it is damaged. */
static size_t
inflate_text(const Span *text, uint8_t *out)
{
	z_stream z = {0};
	size_t n = 0;
	int rc;

	if (text->len > TEXT_MAX || inflateInit(&z) != Z_OK)
		return 0;
	z.next_in = (Bytef *) text->data;
	z.avail_in = (uInt) text->len;
	z.next_out = out;
	z.avail_out = TEXT_MAX;
	rc = inflate(&z, Z_FINISH);
	if (rc == Z_STREAM_END || (rc == Z_BUF_ERROR && z.avail_out > 0))
		n = TEXT_MAX - z.avail_out;
	inflateEnd(&z);
	return n;
}

static int
text_orientation(const Span *text, int (*find)(const uint8_t *data, size_t len))
{
	uint8_t *plain;
	int orientation;

	if (text->data == NULL)
		return 0;
	if (!text->deflated)
		return find(text->data, text->len);
	plain = dsocr_alloc(TEXT_MAX, 1, NULL);
	if (plain == NULL)
		return 0;
	orientation = find(plain, inflate_text(text, plain));
	dsocr_free(plain);
	return orientation;
}

static int
find_orientation(const PngFile *png)
{
	int orientation = 0;

	if (png->exif.data != NULL)
		orientation = dsocr_exif_orientation(png->exif.data, png->exif.len);
	else
		orientation = text_orientation(&png->raw_profile, dsocr_raw_profile_orientation);
	if (orientation == 0)
		orientation = text_orientation(&png->xmp, dsocr_xmp_orientation);
	return orientation == 0 ? 1 : orientation;
}

bool
dsocr_png_probe(const uint8_t *bytes, size_t len, uint64_t max_pixels, DsocrImageHeader *header,
				DsocrError *err)
{
	PngFile png;

	if (!read_chunks(bytes, len, max_pixels, false, &png, err))
		return false;
	header->width = png.width;
	header->height = png.height;
	header->orientation = find_orientation(&png);
	return true;
}

/* What libpng's callbacks need; lives in the frame that called setjmp. */
typedef struct PngReader
{
	png_structp png;
	png_infop info;
	jmp_buf jump;
	const PngFile *file;
	uint8_t *rgb;
	uint64_t rows_left; /* rows of all passes that have a pixel */
	size_t unpolled;	/* pixels since the last poll */
	bool no_memory;		/* an allocation of libpng or zlib failed */
	const DsocrPoll *poll;
	uint8_t palette[256 * 3];
	DsocrError *err;
} PngReader;

static void
on_error(png_structp png, png_const_charp message)
{
	PngReader *r = png_get_error_ptr(png);

	if (r->no_memory)
		dsocr_fail(r->err, DSOCR_E_MEMORY, "out of memory");
	else
		dsocr_fail(r->err, DSOCR_E_IMAGE, "PNG image is damaged: %.100s", message);
	longjmp(r->jump, 1);
}

static void
on_warning(png_structp png, png_const_charp message)
{
}

/* libpng only says "damaged" when zlib gets no memory. */
static png_voidp
on_malloc(png_structp png, png_alloc_size_t size)
{
	PngReader *r = png_get_mem_ptr(png);
	void *p = dsocr_alloc(size, 1, NULL);

	r->no_memory = r->no_memory || p == NULL;
	return p;
}

static void
on_free(png_structp png, png_voidp p)
{
	dsocr_free(p);
}

static void
on_info(png_structp png, png_infop info)
{
	PngReader *r = png_get_progressive_ptr(png);

	if (r->file->depth < 8)
		png_set_packing(png);
	png_read_update_info(png, info);
}

/* One row of n pixels to RGB; pixels are step pixels apart in the picture. */
static void
convert_row(const PngReader *r, const uint8_t *in, uint8_t *out, size_t n, size_t step)
{
	const PngFile *file = r->file;
	int sample = file->depth == 16 ? 2 : 1;
	int scale = file->depth == 1 ? 255 : file->depth == 2 ? 85 : file->depth == 4 ? 17 : 1;

	step *= 3;
	switch (file->color)
	{
		case PNG_COLOR_TYPE_GRAY:
			for (size_t i = 0; i < n; i++, out += step)
			{
				int v;

				if (sample == 2)
					v = in[2 * i] != 0 ? 255 : in[2 * i + 1];
				else
					v = in[i] * scale;
				out[0] = out[1] = out[2] = (uint8_t) v;
			}
			break;
		case PNG_COLOR_TYPE_GRAY_ALPHA:
			for (size_t i = 0; i < n; i++, out += step, in += 2 * sample)
				out[0] = out[1] = out[2] = in[0];
			break;
		case PNG_COLOR_TYPE_PALETTE:
			for (size_t i = 0; i < n; i++, out += step)
				memcpy(out, r->palette + in[i] * 3, 3);
			break;
		case PNG_COLOR_TYPE_RGB:
			if (sample == 1 && step == 3)
			{
				memcpy(out, in, n * 3);
				break;
			}
			/* FALLTHROUGH */
		default:
		{
			int pixel = sample * (file->color == PNG_COLOR_TYPE_RGB ? 3 : 4);

			for (size_t i = 0; i < n; i++, out += step, in += pixel)
			{
				out[0] = in[0];
				out[1] = in[sample];
				out[2] = in[2 * sample];
			}
		}
	}
}

static void
on_row(png_structp png, png_bytep row, png_uint_32 number, int pass)
{
	PngReader *r = png_get_progressive_ptr(png);
	size_t width = r->file->width;
	size_t x = 0;
	size_t y = number;
	size_t n = width;
	size_t step = 1;

	if (r->file->interlaced)
	{
		y = PNG_ROW_FROM_PASS_ROW(number, pass);
		x = (size_t) PNG_PASS_START_COL(pass);
		n = PNG_PASS_COLS(width, pass);
		step = (size_t) 1 << PNG_PASS_COL_SHIFT(pass);
	}
	if (row == NULL || n == 0 || y >= r->file->height || r->rows_left == 0)
		return;
	convert_row(r, row, r->rgb + (y * width + x) * 3, n, step);
	r->rows_left--;
	r->unpolled += n;
	if (r->unpolled < POLL_PIXELS)
		return;
	r->unpolled = 0;
	if (!dsocr_image_go_on(r->poll, r->err))
		longjmp(r->jump, 1);
}

/* Bytes of the filtered rows before compression; *rows: how many there are. */
static uint64_t
raw_bytes(const PngFile *file, uint64_t *rows)
{
	static const uint8_t channels[] = {1, 0, 3, 1, 2, 0, 4};
	uint64_t bits = (uint64_t) channels[file->color] * (uint64_t) file->depth;
	uint64_t bytes = 0;

	*rows = 0;
	for (int pass = 0; pass < (file->interlaced ? 7 : 1); pass++)
	{
		uint64_t w = file->interlaced ? PNG_PASS_COLS(file->width, pass) : file->width;
		uint64_t h = file->interlaced ? PNG_PASS_ROWS(file->height, pass) : file->height;

		if (w == 0 || h == 0)
			continue;
		*rows += h;
		bytes += h * (1 + (w * bits + 7) / 8);
	}
	return bytes;
}

static void
feed(PngReader *r, const uint8_t *bytes, size_t len)
{
	/* libpng does not write to what it is given, it only lacks the const */
	png_process_data(r->png, r->info, (png_bytep) bytes, len);
}

/* Everything that can jump back: no local of the caller changes meanwhile. */
static bool
run_libpng(PngReader *r, const uint8_t *bytes)
{
	const PngFile *file = r->file;

	if (setjmp(r->jump))
		return false;
	/* the checksums were compared when the chunks were walked */
	png_set_crc_action(r->png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
	png_set_user_limits(r->png, DSOCR_PNG_MAX_SIDE, DSOCR_PNG_MAX_SIDE);
	/* encoders exist that state a smaller window than they used */
	png_set_option(r->png, PNG_MAXIMUM_INFLATE_WINDOW, PNG_OPTION_ON);
	png_set_progressive_read_fn(r->png, r, on_info, on_row, NULL);
	feed(r, bytes, PNG_SIGNATURE + 13 + CHUNK_OVERHEAD);
	if (file->color == PNG_COLOR_TYPE_PALETTE)
		feed(r, file->palette.data - 8, file->palette.len + CHUNK_OVERHEAD);
	/* without IEND: whether rows are missing is for the caller to say */
	feed(r, file->idat, file->idat_span);
	return true;
}

/* Indices behind the end of the palette are black, as in Pillow. */
static bool
load_palette(PngReader *r, DsocrError *err)
{
	const Span *palette = &r->file->palette;

	if (r->file->color != PNG_COLOR_TYPE_PALETTE)
		return true;
	if (palette->data == NULL)
		return dsocr_fail(err, DSOCR_E_IMAGE, "PNG image has no palette");
	if (palette->len == 0 || palette->len > sizeof(r->palette) || palette->len % 3 != 0)
		return dsocr_fail(err, DSOCR_E_IMAGE, "PNG image has an invalid palette");
	memcpy(r->palette, palette->data, palette->len);
	return true;
}

bool
dsocr_png_decode(const uint8_t *bytes, size_t len, uint64_t max_pixels, const DsocrPoll *poll,
				 DsocrImageHeader *header, uint8_t **rgb, DsocrError *err)
{
	PngFile file;
	PngReader r = {0};
	size_t pixels;
	bool ok;

	if (!read_chunks(bytes, len, max_pixels, true, &file, err))
		return false;
	if (file.idat == NULL)
		return dsocr_fail(err, DSOCR_E_IMAGE, "PNG image has no image data");
	r.file = &file;
	r.poll = poll;
	r.err = err;
	if (!load_palette(&r, err))
		return false;
	if (raw_bytes(&file, &r.rows_left) / DEFLATE_MAX_RATIO > file.idat_bytes)
		return truncated(err);
	if (!dsocr_mul(file.width, file.height, &pixels))
		return dsocr_fail(err, DSOCR_E_MEMORY, "image is too large");
	r.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning, &r, on_malloc,
									 on_free);
	if (r.png != NULL)
		r.info = png_create_info_struct(r.png);
	if (r.info == NULL)
	{
		png_destroy_read_struct(&r.png, NULL, NULL);
		return dsocr_fail(err, DSOCR_E_MEMORY, "out of memory");
	}
	/* zeroed: a row that never comes must not show what memory held */
	r.rgb = dsocr_zalloc(pixels, 3, err);
	ok = r.rgb != NULL && run_libpng(&r, bytes);
	png_destroy_read_struct(&r.png, &r.info, NULL);
	if (ok && r.rows_left > 0)
		ok = truncated(err);
	if (!ok)
	{
		dsocr_free(r.rgb);
		return false;
	}
	header->width = file.width;
	header->height = file.height;
	header->orientation = find_orientation(&file);
	*rgb = r.rgb;
	return true;
}
