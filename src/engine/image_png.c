/*-------------------------------------------------------------------------
 *
 * image_png.c
 *		PNG to 8-bit RGB with libpng, converted as Pillow converts it.
 *
 * The chunks are walked in image_png_chunks.c.  libpng is only shown those
 * that make pixels (IHDR, PLTE, IDAT), so compressed text, profiles and floods
 * of chunks cost nothing; and it is fed in push mode, because its pull mode
 * inflates all that follows the last row.  A deflate stream grows by at most
 * 1032 : 1, so that a picture which cannot be in the file is refused before
 * its memory is taken.
 *
 * Alpha and tRNS are dropped, 16-bit gray is clipped at 255, other 16-bit
 * samples keep their high byte; gAMA, iCCP and the like are ignored.
 *
 *-------------------------------------------------------------------------
 */
#include "image_png.h"

#include <png.h>
#include <setjmp.h>
#include <string.h>

#define DEFLATE_MAX_RATIO 1032

/* Pixels between two polls. */
#define POLL_PIXELS 65536

/* What libpng's callbacks need; lives in the frame that called setjmp. */
typedef struct PngReader
{
	png_structp png;
	png_infop info;
	jmp_buf jump;
	const DsocrPngFile *file;
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
	const DsocrPngFile *file = r->file;
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
raw_bytes(const DsocrPngFile *file, uint64_t *rows)
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
	const DsocrPngFile *file = r->file;

	if (setjmp(r->jump))
		return false;
	/* the checksums were compared when the chunks were walked */
	png_set_crc_action(r->png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
	png_set_user_limits(r->png, DSOCR_PNG_MAX_SIDE, DSOCR_PNG_MAX_SIDE);
	/* encoders exist that state a smaller window than they used */
	png_set_option(r->png, PNG_MAXIMUM_INFLATE_WINDOW, PNG_OPTION_ON);
	png_set_progressive_read_fn(r->png, r, on_info, on_row, NULL);
	feed(r, bytes, DSOCR_PNG_SIGNATURE + 13 + DSOCR_PNG_OVERHEAD);
	if (file->color == PNG_COLOR_TYPE_PALETTE)
		feed(r, file->palette.data - 8, file->palette.len + DSOCR_PNG_OVERHEAD);
	/* without IEND: whether rows are missing is for the caller to say */
	feed(r, file->idat, file->idat_span);
	return true;
}

/* Indices behind the end of the palette are black, as in Pillow. */
static bool
load_palette(PngReader *r, DsocrError *err)
{
	const DsocrPngSpan *palette = &r->file->palette;

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
	DsocrPngFile file;
	PngReader r = {0};
	size_t pixels;
	bool ok;

	if (!dsocr_png_read_chunks(bytes, len, max_pixels, true, &file, err))
		return false;
	if (file.idat == NULL)
		return dsocr_fail(err, DSOCR_E_IMAGE, "PNG image has no image data");
	r.file = &file;
	r.poll = poll;
	r.err = err;
	if (!load_palette(&r, err))
		return false;
	if (raw_bytes(&file, &r.rows_left) / DEFLATE_MAX_RATIO > file.idat_bytes)
		return dsocr_png_truncated(err);
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
		ok = dsocr_png_truncated(err);
	if (!ok)
	{
		dsocr_free(r.rgb);
		return false;
	}
	header->width = file.width;
	header->height = file.height;
	header->orientation = dsocr_png_orientation(&file);
	*rgb = r.rgb;
	return true;
}
