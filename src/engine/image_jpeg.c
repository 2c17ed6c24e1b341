/*-------------------------------------------------------------------------
 *
 * image_jpeg.c
 *		JPEG to 8-bit RGB with libjpeg-turbo, converted as Pillow converts it.
 *
 * The markers are walked here first: size and number of components against
 * the limits, EXIF, and the number of scans, because a progressive file can
 * ask for thousands of passes over the whole picture.  The library gets a
 * memory limit made for this picture and has no way to print or exit.
 *
 * Damage that the library can go on from is accepted as Pillow does, the
 * early end of the file is not.
 *
 *-------------------------------------------------------------------------
 */
#include "image_format.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#define M_TEM 0x01
#define M_SOF0 0xc0
#define M_SOF15 0xcf
#define M_DHT 0xc4
#define M_JPG 0xc8
#define M_DAC 0xcc
#define M_RST0 0xd0
#define M_RST7 0xd7
#define M_SOI 0xd8
#define M_EOI 0xd9
#define M_SOS 0xda
#define M_APP1 0xe1

/* Beside the coefficients: tables, row buffers, the library's own pools. */
#define JPEG_BASE_MEMORY (16 * 1024 * 1024)

/* Pixels times scans that any picture may cost, and scans that even the largest may have. */
#define SCAN_PIXELS 2000000000
#define MIN_SCANS 20

typedef struct JpegFile
{
	uint32_t width;
	uint32_t height;
	int sof; /* marker byte of the frame, 0 before it */
	int precision;
	int components;
	int scans;
	bool ended;		 /* EOI was found */
	int orientation; /* of the first EXIF segment that has one, 0 without */
} JpegFile;

static bool
truncated(DsocrError *err)
{
	return dsocr_fail(err, DSOCR_E_IMAGE, "JPEG image is truncated");
}

static bool
is_sof(int marker)
{
	return marker >= M_SOF0 && marker <= M_SOF15 && marker != M_DHT && marker != M_JPG &&
		   marker != M_DAC;
}

/* Every scan passes over all blocks, so large pictures get fewer. */
static int
max_scans(const JpegFile *file)
{
	uint64_t scans = SCAN_PIXELS / ((uint64_t) file->width * file->height);

	return scans > DSOCR_JPEG_MAX_SCANS ? DSOCR_JPEG_MAX_SCANS
		   : scans < MIN_SCANS			? MIN_SCANS
										: (int) scans;
}

static bool
too_many_scans(const JpegFile *file, DsocrError *err)
{
	return dsocr_fail(err, DSOCR_E_IMAGE, "JPEG image has more than %d scans", max_scans(file));
}

/*
 * Offset behind the next marker, which goes to *marker; 0 at the end of the
 * file.  Everything that is no marker is skipped, entropy-coded data included.
 */
static size_t
next_marker(const uint8_t *bytes, size_t len, size_t at, int *marker)
{
	while (at < len)
	{
		const uint8_t *p = memchr(bytes + at, 0xff, len - at);

		if (p == NULL)
			return 0;
		at = (size_t) (p - bytes);
		while (at < len && bytes[at] == 0xff)
			at++;
		if (at == len)
			return 0;
		*marker = bytes[at++];
		if (*marker != 0 && *marker != M_TEM && !(*marker >= M_RST0 && *marker <= M_RST7))
			return at;
	}
	return 0;
}

/*
 * Walk the markers: up to the first scan for the header alone, else to the
 * end of the file.  Only fails where no decoder could go on.
 */
static void
read_markers(const uint8_t *bytes, size_t len, bool header_only, JpegFile *file)
{
	size_t at = 2;
	int marker = 0;

	memset(file, 0, sizeof(*file));
	while ((at = next_marker(bytes, len, at, &marker)) != 0)
	{
		size_t segment;
		const uint8_t *data = bytes + at + 2;

		if (marker == M_EOI)
		{
			file->ended = true;
			return;
		}
		if (marker == M_SOI)
			continue;
		if (len - at < 2)
			return;
		segment = dsocr_be16(bytes + at);
		if (segment < 2 || segment > len - at)
			return;
		if (is_sof(marker) && file->sof == 0 && segment >= 8)
		{
			file->sof = marker;
			file->precision = data[0];
			file->height = dsocr_be16(data + 1);
			file->width = dsocr_be16(data + 3);
			file->components = data[5];
		}
		else if (marker == M_APP1 && file->scans == 0 && file->orientation == 0 && segment >= 8 &&
				 memcmp(data, "Exif\0\0", 6) == 0)
			file->orientation = dsocr_exif_orientation(data, segment - 2);
		else if (marker == M_SOS)
		{
			file->scans++;
			if (header_only || file->scans > DSOCR_JPEG_MAX_SCANS)
				return;
		}
		at += segment;
	}
}

static bool
check_file(const JpegFile *file, uint64_t max_pixels, DsocrError *err)
{
	if (file->sof == 0)
		return dsocr_fail(err, DSOCR_E_IMAGE,
						  file->ended ? "JPEG image has no header" : "JPEG image is truncated");
	if (file->precision != 8)
		return dsocr_fail(err, DSOCR_E_IMAGE, "JPEG image has %d-bit samples; only 8 are supported",
						  file->precision);
	if (file->components != 1 && file->components != 3 && file->components != 4)
		return dsocr_fail(err, DSOCR_E_IMAGE, "JPEG image has %d components", file->components);
	return dsocr_image_check_size("JPEG", file->width, file->height, DSOCR_JPEG_MAX_SIDE,
								  max_pixels, err);
}

bool
dsocr_jpeg_probe(const uint8_t *bytes, size_t len, uint64_t max_pixels, DsocrImageHeader *header,
				 DsocrError *err)
{
	JpegFile file;

	read_markers(bytes, len, true, &file);
	if (!check_file(&file, max_pixels, err))
		return false;
	header->width = file.width;
	header->height = file.height;
	header->orientation = file.orientation == 0 ? 1 : file.orientation;
	return true;
}

/* Lives in the frame that called setjmp; everything the decoder changes is in here. */
typedef struct JpegReader
{
	struct jpeg_decompress_struct cinfo;
	struct jpeg_error_mgr errors;
	struct jpeg_progress_mgr progress;
	jmp_buf jump;
	const JpegFile *file;
	uint8_t *rgb;
	uint8_t *row; /* one row of CMYK or gray samples */
	const DsocrPoll *poll;
	DsocrError *err;
} JpegReader;

static void
on_error(j_common_ptr cinfo)
{
	JpegReader *r = cinfo->client_data;
	char message[JMSG_LENGTH_MAX];

	if (cinfo->err->msg_code == JERR_OUT_OF_MEMORY)
		dsocr_fail(r->err, DSOCR_E_MEMORY, "out of memory");
	else if (cinfo->err->msg_code == JERR_NO_BACKING_STORE)
		dsocr_fail(r->err, DSOCR_E_IMAGE, "JPEG image needs too much memory");
	else if (cinfo->err->msg_code == JERR_INPUT_EOF || cinfo->err->msg_code == JERR_INPUT_EMPTY)
		truncated(r->err);
	else
	{
		cinfo->err->format_message(cinfo, message);
		dsocr_fail(r->err, DSOCR_E_IMAGE, "JPEG image is damaged: %.100s", message);
	}
	longjmp(r->jump, 1);
}

/* Warnings are only counted, except that the data ended too early. */
static void
on_message(j_common_ptr cinfo, int level)
{
	JpegReader *r = cinfo->client_data;

	if (level >= 0)
		return;
	cinfo->err->num_warnings++;
	if (cinfo->err->msg_code == JWRN_JPEG_EOF)
	{
		truncated(r->err);
		longjmp(r->jump, 1);
	}
}

static void
on_output(j_common_ptr cinfo)
{
}

static void
on_progress(j_common_ptr cinfo)
{
	JpegReader *r = cinfo->client_data;

	if (r->cinfo.input_scan_number > max_scans(r->file))
	{
		too_many_scans(r->file, r->err);
		longjmp(r->jump, 1);
	}
	/* the library reports every row of blocks */
	if (!dsocr_image_go_on(r->poll, r->err))
		longjmp(r->jump, 1);
}

/* Pillow's conversion; the samples are stored inverted, as Adobe does it. */
static void
cmyk_to_rgb(const uint8_t *in, uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++, in += 4, out += 3)
	{
		int nk = in[3]; /* 255 - k */

		for (int c = 0; c < 3; c++)
		{
			int t = (255 - in[c]) * nk + 128;
			int v = nk - ((t + (t >> 8)) >> 8);

			out[c] = (uint8_t) (v < 0 ? 0 : v);
		}
	}
}

static void
read_rows(JpegReader *r)
{
	size_t width = r->cinfo.output_width;

	while (r->cinfo.output_scanline < r->cinfo.output_height)
	{
		uint8_t *out = r->rgb + (size_t) r->cinfo.output_scanline * width * 3;
		JSAMPROW row = r->cinfo.output_components == 3 ? out : r->row;

		jpeg_read_scanlines(&r->cinfo, &row, 1);
		if (r->cinfo.output_components == 4)
			cmyk_to_rgb(r->row, out, width);
		else if (r->cinfo.output_components == 1)
			for (size_t i = 0; i < width; i++)
				out[3 * i] = out[3 * i + 1] = out[3 * i + 2] = r->row[i];
	}
}

/* Coefficients of all components at full size, padded to whole blocks. */
static long
memory_limit(const JpegFile *file)
{
	uint64_t width = ((uint64_t) file->width + 63) / 32 * 32;
	uint64_t height = ((uint64_t) file->height + 63) / 32 * 32;

	return (long) (width * height * (uint64_t) file->components * sizeof(JCOEF) + JPEG_BASE_MEMORY);
}

static bool
run_libjpeg(JpegReader *r, const uint8_t *bytes, size_t len)
{
	struct jpeg_decompress_struct *cinfo = &r->cinfo;

	if (setjmp(r->jump))
		return false;
	jpeg_create_decompress(cinfo);
	cinfo->mem->max_memory_to_use = memory_limit(r->file);
	cinfo->progress = &r->progress;
	jpeg_mem_src(cinfo, bytes, len);
	jpeg_read_header(cinfo, TRUE);
	/* the walk above and the library must have seen the same frame */
	if (cinfo->image_width != r->file->width || cinfo->image_height != r->file->height ||
		cinfo->num_components != r->file->components)
		return dsocr_fail(r->err, DSOCR_E_IMAGE, "JPEG image is damaged: contradictory headers");
	cinfo->out_color_space = cinfo->num_components == 1	  ? JCS_GRAYSCALE
							 : cinfo->num_components == 4 ? JCS_CMYK
														  : JCS_RGB;
	jpeg_start_decompress(cinfo);
	read_rows(r);
	jpeg_finish_decompress(cinfo);
	return true;
}

bool
dsocr_jpeg_decode(const uint8_t *bytes, size_t len, uint64_t max_pixels, const DsocrPoll *poll,
				  DsocrImageHeader *header, uint8_t **rgb, DsocrError *err)
{
	JpegFile file;
	JpegReader r;
	size_t pixels;
	bool ok;

	read_markers(bytes, len, false, &file);
	if (!check_file(&file, max_pixels, err))
		return false;
	if (file.scans > max_scans(&file))
		return too_many_scans(&file, err);
	if (file.scans == 0)
		return file.ended ? dsocr_fail(err, DSOCR_E_IMAGE, "JPEG image has no image data")
						  : truncated(err);

	/* A Huffman code has at least one bit a block; arithmetic coding may do with less. */
	if (file.sof < 0xc8 && (uint64_t) file.width * file.height / 64 / 8 > len)
		return truncated(err);
	if (!dsocr_mul(file.width, file.height, &pixels))
		return dsocr_fail(err, DSOCR_E_MEMORY, "image is too large");

	memset(&r, 0, sizeof(r));
	r.file = &file;
	r.poll = poll;
	r.err = err;
	r.cinfo.err = jpeg_std_error(&r.errors);
	r.cinfo.client_data = &r;
	r.errors.error_exit = on_error;
	r.errors.emit_message = on_message;
	r.errors.output_message = on_output;
	r.progress.progress_monitor = on_progress;
	r.rgb = dsocr_alloc(pixels, 3, err);
	r.row = dsocr_alloc(file.width, 4, err);
	ok = r.rgb != NULL && r.row != NULL && run_libjpeg(&r, bytes, len);
	jpeg_destroy_decompress(&r.cinfo);
	dsocr_free(r.row);
	if (!ok)
	{
		dsocr_free(r.rgb);
		return false;
	}
	header->width = file.width;
	header->height = file.height;
	header->orientation = file.orientation == 0 ? 1 : file.orientation;
	*rgb = r.rgb;
	return true;
}
