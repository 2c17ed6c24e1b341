/*-------------------------------------------------------------------------
 *
 * image_tiff.c
 *		A page of a TIFF to 8-bit RGB with libtiff, converted as Pillow does.
 *
 * libtiff reads a directory with everything in it before it can be asked for
 * the size.  So what decides over memory and time is read here first: values
 * of tags that add up to more than the file, sizes beyond the limits, pages
 * cut into millions of strips are refused before libtiff sees the directory.
 * Its allocations are bounded by what the size of the picture explains.
 *
 * Pixels are decoded row by row, or tile by tile, and become RGB in
 * image_tiff_pixels.c.  What libtiff cannot decode is an error, not a grey
 * area; where its fax decoder goes on after a bad line, so does Pillow.
 *
 *-------------------------------------------------------------------------
 */
#ifdef DSOCR_WITH_TIFF

#include "image_tiff.h"
#include "image_tiff_file.h"

#include <string.h>

#define TIFF_MAX_SIDE 1000000

/* Strips or tiles that are harmless; more must have this many pixels each. */
#define FEW_PARTS 16384
#define PART_PIXELS 256

/* Beside rows, strips and tiles: tables, arrays of offsets, states of decoders. */
#define BASE_MEMORY ((uint64_t) 32 << 20)

/* Pixels between two polls. */
#define POLL_PIXELS ((size_t) 1 << 18)

/* ---- what is looked at before libtiff does ---- */

/* How a page is cut up. */
typedef struct Shape
{
	uint64_t width;
	uint64_t height;
	uint64_t part_width; /* of a strip or tile */
	uint64_t part_height;
	uint64_t planes;
} Shape;

static uint64_t
tag_value(const DsocrTiffFile *f, uint64_t offset, int tag, uint64_t otherwise)
{
	uint64_t value;

	return dsocr_tiff_value(f->bytes, f->len, offset, tag, &value) ? value : otherwise;
}

static uint64_t
pieces(uint64_t whole, uint64_t part)
{
	return whole / part + (whole % part != 0);
}

static bool
damaged(const DsocrTiffFile *f, DsocrError *err)
{
	if (f->message[0] == '\0')
		return dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image is damaged");
	return dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image is damaged: %s", f->message);
}

/* Size and parts against the limits; the bytes of the largest sensible allocation in *memory. */
static bool
check_shape(const DsocrTiffFile *f, uint64_t offset, uint64_t max_pixels, Shape *s,
			uint64_t *memory, DsocrError *err)
{
	uint64_t samples = tag_value(f, offset, TIFFTAG_SAMPLESPERPIXEL, 1);
	uint64_t parts;

	s->width = tag_value(f, offset, TIFFTAG_IMAGEWIDTH, 0);
	s->height = tag_value(f, offset, TIFFTAG_IMAGELENGTH, 0);
	if (s->width > UINT32_MAX || s->height > UINT32_MAX)
		return dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image is damaged: impossible size");
	if (!dsocr_image_check_size("TIFF", (uint32_t) s->width, (uint32_t) s->height, TIFF_MAX_SIDE,
								max_pixels, err))
		return false;
	if (samples < 1 || samples > DSOCR_TIFF_MAX_SAMPLES)
		return dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image has %llu samples a pixel",
						  (unsigned long long) samples);
	s->part_width = tag_value(f, offset, TIFFTAG_TILEWIDTH, 0);
	s->part_height = tag_value(f, offset, TIFFTAG_TILELENGTH, 0);
	if (s->part_width == 0 || s->part_height == 0)
	{
		s->part_width = s->width;
		s->part_height = tag_value(f, offset, TIFFTAG_ROWSPERSTRIP, s->height);
		if (s->part_height == 0 || s->part_height > s->height)
			s->part_height = s->height;
	}
	if (s->part_width > UINT32_MAX || s->part_height > UINT32_MAX ||
		s->part_width * s->part_height > 4 * s->width * s->height + BASE_MEMORY / 8)
		return dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image has tiles of %llu x %llu pixels",
						  (unsigned long long) s->part_width, (unsigned long long) s->part_height);
	s->planes = tag_value(f, offset, TIFFTAG_PLANARCONFIG, 1) == 2 ? samples : 1;
	parts = pieces(s->width, s->part_width) * pieces(s->height, s->part_height) * s->planes;
	if (parts > FEW_PARTS && s->width * s->height * s->planes / parts < PART_PIXELS)
		return dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image has %llu strips or tiles",
						  (unsigned long long) parts);
	/* a row or part of 16-bit samples, and as much again for what surrounds it */
	*memory = BASE_MEMORY + 4 * samples * s->part_width * s->part_height + f->len;
	return true;
}

/* ---- the page ---- */

static uint16_t
field16(TIFF *tif, uint32_t tag, uint16_t otherwise)
{
	uint16_t v;

	return TIFFGetField(tif, tag, &v) ? v : otherwise;
}

static bool
read_layout(TIFF *tif, DsocrTiffLayout *l, DsocrError *err)
{
	uint16_t *colors[3];
	uint16_t *extra;
	uint16_t n_extra = 0;
	uint16_t compression = field16(tif, TIFFTAG_COMPRESSION, COMPRESSION_NONE);

	l->bits = field16(tif, TIFFTAG_BITSPERSAMPLE, 1);
	l->samples = field16(tif, TIFFTAG_SAMPLESPERPIXEL, 1);
	l->photometric = field16(tif, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISWHITE);
	l->format = field16(tif, TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
	l->separate =
		field16(tif, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) == PLANARCONFIG_SEPARATE &&
		l->samples > 1;
	if (!TIFFIsCODECConfigured(compression))
	{
		dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image has compression %d, which is not supported",
				   compression);
		return dsocr_hint(err, "Convert it to another compression, for example deflate.");
	}
	if (TIFFGetField(tif, TIFFTAG_EXTRASAMPLES, &n_extra, &extra) && n_extra > 0)
		l->premultiplied = extra[0] == EXTRASAMPLE_ASSOCALPHA;
	if (l->photometric == PHOTOMETRIC_YCBCR)
	{
		/* libjpeg converts, else libtiff does; gray alone needs neither */
		if (compression == COMPRESSION_JPEG && !l->separate)
		{
			TIFFSetField(tif, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
			l->photometric = l->samples == 1 ? PHOTOMETRIC_MINISBLACK : PHOTOMETRIC_RGB;
		}
		else if (l->samples == 1)
			l->photometric = PHOTOMETRIC_MINISBLACK;
		else
			l->converted = true;
	}
	if (l->photometric == PHOTOMETRIC_PALETTE)
	{
		if (!TIFFGetField(tif, TIFFTAG_COLORMAP, &colors[0], &colors[1], &colors[2]))
			return dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image has no palette");
		for (int i = 0; l->bits <= 8 && i < 1 << l->bits; i++)
			for (int k = 0; k < 3; k++)
				l->palette[i][k] = (uint8_t) (colors[k][i] >> 8);
	}
	return dsocr_tiff_layout_check(l, err);
}

/* An open page: its layout is known and within the limits. */
typedef struct TiffPage
{
	DsocrTiffFile file;
	TIFF *tif;
	Shape shape;
	DsocrTiffLayout layout;
} TiffPage;

/*
 * Does libtiff see the tiles that check_shape has measured?  A directory with
 * one of the two sizes of a tile is tiles to one and strips to the other.
 */
static bool
agrees_on_tiles(TiffPage *p, DsocrError *err)
{
	uint32_t width = 0;
	uint32_t height = 0;

	if (!TIFFIsTiled(p->tif))
		return true;
	if (!TIFFGetField(p->tif, TIFFTAG_TILEWIDTH, &width) ||
		!TIFFGetField(p->tif, TIFFTAG_TILELENGTH, &height) || width != p->shape.part_width ||
		height != p->shape.part_height)
		return dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image is damaged: contradictory tiles");
	return true;
}

static bool
open_page(TiffPage *p, const uint8_t *bytes, size_t len, uint64_t max_pixels,
		  DsocrImageHeader *header, DsocrError *err)
{
	uint64_t offset = dsocr_tiff_page_offset(bytes, len, header->page);
	uint64_t memory = 0;
	uint32_t width = 0;
	uint32_t height = 0;

	memset(p, 0, sizeof(*p));
	p->file.bytes = bytes;
	p->file.len = len;
	if (offset == 0 && header->page > 1)
		return dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image has no page %d", header->page);
	if (offset == 0)
		return dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image has no directory");
	if (!check_shape(&p->file, offset, max_pixels, &p->shape, &memory, err))
		return false;
	if (!dsocr_tiff_directory_fits(bytes, len, offset))
		return dsocr_fail(err, DSOCR_E_IMAGE,
						  "TIFF image is damaged: values beyond the end of the file");
	p->tif = dsocr_tiff_open(&p->file, memory);
	if (p->tif == NULL || !TIFFSetSubDirectory(p->tif, offset))
		return damaged(&p->file, err);
	if (!TIFFGetField(p->tif, TIFFTAG_IMAGEWIDTH, &width) ||
		!TIFFGetField(p->tif, TIFFTAG_IMAGELENGTH, &height) || width != p->shape.width ||
		height != p->shape.height)
		return dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image is damaged: contradictory sizes");
	header->width = width;
	header->height = height;
	header->orientation = field16(p->tif, TIFFTAG_ORIENTATION, 1);
	if (header->orientation < 1 || header->orientation > 8)
		header->orientation = 1;
	return agrees_on_tiles(p, err) && read_layout(p->tif, &p->layout, err);
}

static void
close_page(TiffPage *p)
{
	if (p->tif != NULL)
		TIFFClose(p->tif);
}

bool
dsocr_tiff_probe(const uint8_t *bytes, size_t len, uint64_t max_pixels, DsocrImageHeader *header,
				 DsocrError *err)
{
	TiffPage p;
	bool ok = open_page(&p, bytes, len, max_pixels, header, err);

	close_page(&p);
	return ok;
}

/* ---- pixels ---- */

/* Where decoded pixels go: RGB at once, or a byte a sample until all planes are there. */
typedef struct Target
{
	TiffPage *page;
	uint8_t *rgb;
	uint8_t *planes; /* [used][height][width] when the planes are separate */
	uint8_t *part;	 /* a row or a tile as libtiff gives it */
	uint8_t *line;	 /* a byte a sample */
	const DsocrPoll *poll;
	size_t unpolled;
	DsocrError *err;
} Target;

/* n pixels of a row have been decoded, of all samples or of one plane. */
static void
put_pixels(Target *t, const uint8_t *row, uint64_t x, uint64_t y, size_t n, int plane)
{
	const DsocrTiffLayout *l = &t->page->layout;
	size_t w = t->page->shape.width;
	size_t h = t->page->shape.height;

	if (l->separate)
		dsocr_tiff_unpack(l, row, n, t->planes + ((size_t) plane * h + y) * w + x);
	else
	{
		const uint8_t *samples[DSOCR_TIFF_MAX_SAMPLES];

		dsocr_tiff_unpack(l, row, n * l->samples, t->line);
		for (int s = 0; s < l->samples; s++)
			samples[s] = t->line + s;
		dsocr_tiff_to_rgb(l, samples, l->samples, n, t->rgb + (y * w + x) * 3);
	}
}

static bool
go_on(Target *t, size_t pixels)
{
	t->unpolled += pixels;
	if (t->unpolled < POLL_PIXELS)
		return true;
	t->unpolled = 0;
	return dsocr_image_go_on(t->poll, t->err);
}

static bool
read_strips(Target *t, int plane)
{
	TiffPage *p = t->page;

	for (uint32_t y = 0; y < p->shape.height; y++)
	{
		if (!go_on(t, p->shape.width))
			return false;
		if (TIFFReadScanline(p->tif, t->part, y, (uint16_t) plane) != 1)
			return damaged(&p->file, t->err);
		put_pixels(t, t->part, 0, y, p->shape.width, plane);
	}
	return true;
}

static bool
read_tiles(Target *t, int plane)
{
	TiffPage *p = t->page;
	uint32_t tw = (uint32_t) p->shape.part_width;
	uint32_t th = (uint32_t) p->shape.part_height;
	size_t row_bytes = (size_t) TIFFTileRowSize(p->tif);

	for (uint32_t y = 0; y < p->shape.height; y += th)
		for (uint32_t x = 0; x < p->shape.width; x += tw)
		{
			size_t w = p->shape.width - x < tw ? p->shape.width - x : tw;
			size_t h = p->shape.height - y < th ? p->shape.height - y : th;

			if (!go_on(t, (size_t) tw * th))
				return false;
			if (TIFFReadTile(p->tif, t->part, x, y, 0, (uint16_t) plane) < 0)
				return damaged(&p->file, t->err);
			for (size_t i = 0; i < h; i++)
				put_pixels(t, t->part + i * row_bytes, x, y + i, w, plane);
		}
	return true;
}

/* YCbCr that is not JPEG: libtiff's own conversion, a strip or row of tiles at a time. */
static bool
read_converted(Target *t)
{
	TiffPage *p = t->page;
	uint32_t rows = (uint32_t) p->shape.part_height;
	uint32_t width = (uint32_t) p->shape.width;
	uint32_t height = (uint32_t) p->shape.height;
	uint32_t *raster = NULL;
	TIFFRGBAImage image;
	char message[1024] = "";
	bool ok = true;

	if (rows > height)
		rows = height;
	if (!TIFFRGBAImageOK(p->tif, message) || !TIFFRGBAImageBegin(&image, p->tif, 1, message))
		return dsocr_fail(t->err, DSOCR_E_IMAGE, "TIFF image is not supported: %.100s", message);
	/* as stored; the caller turns it */
	image.orientation = image.req_orientation = ORIENTATION_TOPLEFT;
	raster = dsocr_alloc((size_t) width * rows, sizeof(*raster), t->err);
	ok = raster != NULL;
	for (uint32_t y = 0; ok && y < height; y += rows)
	{
		uint32_t n = height - y < rows ? height - y : rows;
		uint8_t *out = t->rgb + (size_t) y * width * 3;

		image.row_offset = (int) y;
		image.col_offset = 0;
		ok = go_on(t, (size_t) width * n);
		if (ok && !TIFFRGBAImageGet(&image, raster, width, n))
			ok = damaged(&p->file, t->err);
		for (size_t i = 0; ok && i < (size_t) width * n; i++, out += 3)
		{
			out[0] = (uint8_t) TIFFGetR(raster[i]);
			out[1] = (uint8_t) TIFFGetG(raster[i]);
			out[2] = (uint8_t) TIFFGetB(raster[i]);
		}
	}
	dsocr_free(raster);
	TIFFRGBAImageEnd(&image);
	return ok;
}

static bool
read_planes(Target *t)
{
	const DsocrTiffLayout *l = &t->page->layout;
	bool tiled = TIFFIsTiled(t->page->tif) != 0;
	size_t w = t->page->shape.width;
	size_t h = t->page->shape.height;
	int n = l->separate ? dsocr_tiff_used_samples(l) : 1;

	for (int plane = 0; plane < n; plane++)
		if (!(tiled ? read_tiles(t, plane) : read_strips(t, plane)))
			return false;
	for (size_t y = 0; l->separate && y < h; y++)
	{
		const uint8_t *samples[DSOCR_TIFF_MAX_SAMPLES];

		for (int s = 0; s < n; s++)
			samples[s] = t->planes + ((size_t) s * h + y) * w;
		dsocr_tiff_to_rgb(l, samples, 1, w, t->rgb + y * w * 3);
	}
	return true;
}

static bool
make_buffers(Target *t)
{
	TiffPage *p = t->page;
	const DsocrTiffLayout *l = &p->layout;
	tmsize_t part = TIFFIsTiled(p->tif) ? TIFFTileSize(p->tif) : TIFFScanlineSize(p->tif);
	size_t samples = l->separate ? 1 : l->samples;
	size_t pixels = p->shape.width * p->shape.height;
	size_t row = p->shape.part_width > p->shape.width ? p->shape.part_width : p->shape.width;
	size_t need;

	/* what libtiff writes must be at least what is read here */
	if (!TIFFIsTiled(p->tif) || l->converted)
		row = p->shape.width;
	else if (p->shape.part_width != 0)
		row = p->shape.part_width;
	need = (row * samples * l->bits + 7) / 8;
	if (!l->converted &&
		(part <= 0 || (size_t) (TIFFIsTiled(p->tif) ? TIFFTileRowSize(p->tif) : part) < need))
		return damaged(&p->file, t->err);
	if (!l->converted && TIFFIsTiled(p->tif) &&
		(size_t) part / p->shape.part_height < (size_t) TIFFTileRowSize(p->tif))
		return damaged(&p->file, t->err);
	t->rgb = dsocr_alloc(pixels, 3, t->err);
	if (t->rgb == NULL || l->converted)
		return t->rgb != NULL;
	/* decoders may leave out what they do not have */
	t->part = dsocr_zalloc((size_t) part, 1, t->err);
	t->line = dsocr_alloc(row * samples, 1, t->err);
	if (l->separate)
		t->planes = dsocr_alloc(pixels, (size_t) dsocr_tiff_used_samples(l), t->err);
	return t->part != NULL && t->line != NULL && (t->planes != NULL || !l->separate);
}

bool
dsocr_tiff_decode(const uint8_t *bytes, size_t len, uint64_t max_pixels, const DsocrPoll *poll,
				  DsocrImageHeader *header, uint8_t **rgb, DsocrError *err)
{
	TiffPage p;
	Target t = {.page = &p, .poll = poll, .unpolled = POLL_PIXELS, .err = err};
	bool ok = open_page(&p, bytes, len, max_pixels, header, err) && make_buffers(&t) &&
			  (p.layout.converted ? read_converted(&t) : read_planes(&t));

	close_page(&p);
	dsocr_free(t.part);
	dsocr_free(t.line);
	dsocr_free(t.planes);
	if (!ok)
	{
		dsocr_free(t.rgb);
		return false;
	}
	*rgb = t.rgb;
	return true;
}

#endif
