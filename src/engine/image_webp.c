/*-------------------------------------------------------------------------
 *
 * image_webp.c
 *		WebP to 8-bit RGB with libwebp, as Pillow does it.
 *
 * A still picture, or the first frame of an animation on its canvas, which is
 * black where the frame does not reach.  Alpha is dropped, not blended.  The
 * demultiplexer checks the structure of the whole file first; the limits are
 * applied to the canvas before a buffer is allocated.
 *
 *-------------------------------------------------------------------------
 */
#include "image_format.h"

#include <string.h>

#ifdef DSOCR_WITH_WEBP

#include <webp/decode.h>
#include <webp/demux.h>

/* What the format can say; smaller than what the limits allow. */
#define WEBP_MAX_SIDE (1 << 24)

/* As WebPBitstreamFeatures has it. */
#define FORMAT_LOSSY 1

/* Bytes that are decoded between two polls. */
#define POLL_BYTES ((size_t) 32768)

static bool
damaged(DsocrError *err)
{
	return dsocr_fail(err, DSOCR_E_IMAGE, "WebP image is damaged");
}

/* NULL when the structure is wrong; the limits are checked. */
static WebPDemuxer *
open_file(const uint8_t *bytes, size_t len, uint64_t max_pixels, DsocrImageHeader *header,
		  DsocrError *err)
{
	const WebPData data = {.bytes = bytes, .size = len};
	WebPDemuxState state;
	WebPDemuxer *demux = WebPDemuxPartial(&data, &state);
	WebPChunkIterator chunk;

	if (demux == NULL || state == WEBP_DEMUX_PARSE_ERROR)
		damaged(err);
	else if (state != WEBP_DEMUX_DONE)
		dsocr_fail(err, DSOCR_E_IMAGE, "WebP image is truncated");
	else
	{
		header->width = WebPDemuxGetI(demux, WEBP_FF_CANVAS_WIDTH);
		header->height = WebPDemuxGetI(demux, WEBP_FF_CANVAS_HEIGHT);
		header->orientation = 0;
		if (dsocr_image_check_size("WebP", header->width, header->height, WEBP_MAX_SIDE, max_pixels,
								   err))
		{
			if (WebPDemuxGetChunk(demux, "EXIF", 1, &chunk))
			{
				header->orientation = dsocr_exif_orientation(chunk.chunk.bytes, chunk.chunk.size);
				WebPDemuxReleaseChunkIterator(&chunk);
			}
			if (header->orientation == 0)
				header->orientation = 1;
			return demux;
		}
	}
	WebPDemuxDelete(demux);
	return NULL;
}

bool
dsocr_webp_probe(const uint8_t *bytes, size_t len, uint64_t max_pixels, DsocrImageHeader *header,
				 DsocrError *err)
{
	WebPDemuxer *demux = open_file(bytes, len, max_pixels, header, err);

	WebPDemuxDelete(demux);
	return demux != NULL;
}

/* Feed the frame piece by piece; rgb is the first byte of its place on the canvas. */
static bool
decode_frame(const WebPIterator *frame, uint8_t *rgb, size_t stride, const DsocrPoll *poll,
			 DsocrError *err)
{
	size_t size = (size_t) (frame->height - 1) * stride + (size_t) frame->width * 3;
	WebPIDecoder *decoder = WebPINewRGB(MODE_RGB, rgb, size, (int) stride);
	VP8StatusCode status = VP8_STATUS_SUSPENDED;
	bool ok = true;

	if (decoder == NULL)
		return dsocr_fail(err, DSOCR_E_MEMORY, "out of memory");
	for (size_t n = 0; ok && status == VP8_STATUS_SUSPENDED && n < frame->fragment.size;)
	{
		size_t left = frame->fragment.size - n;

		ok = dsocr_image_go_on(poll, err);
		n += left < POLL_BYTES ? left : POLL_BYTES;
		if (ok)
			status = WebPIUpdate(decoder, frame->fragment.bytes, n);
	}
	WebPIDelete(decoder);
	if (!ok)
		return false;
	if (status == VP8_STATUS_OUT_OF_MEMORY)
		return dsocr_fail(err, DSOCR_E_MEMORY, "out of memory");
	if (status == VP8_STATUS_SUSPENDED)
		return dsocr_fail(err, DSOCR_E_IMAGE, "WebP image is truncated");
	return status == VP8_STATUS_OK || damaged(err);
}

/* Do the headers of frame and picture agree?  The decoder goes by the latter. */
static bool
check_frame(const WebPIterator *frame, const DsocrImageHeader *header, DsocrError *err)
{
	WebPBitstreamFeatures features;

	if (WebPGetFeatures(frame->fragment.bytes, frame->fragment.size, &features) != VP8_STATUS_OK ||
		features.width != frame->width || features.height != frame->height || frame->x_offset < 0 ||
		frame->y_offset < 0 ||
		(uint32_t) frame->x_offset + (uint32_t) frame->width > header->width ||
		(uint32_t) frame->y_offset + (uint32_t) frame->height > header->height)
		return damaged(err);
	/* the modes alone of 16 x 16 pixels take more than three bits, by fixed probabilities */
	if (features.format == FORMAT_LOSSY &&
		((uint64_t) frame->width + 15) / 16 * (((uint64_t) frame->height + 15) / 16) / 4 >
			frame->fragment.size)
		return dsocr_fail(err, DSOCR_E_IMAGE, "WebP image is truncated");
	return true;
}

bool
dsocr_webp_decode(const uint8_t *bytes, size_t len, uint64_t max_pixels, const DsocrPoll *poll,
				  DsocrImageHeader *header, uint8_t **rgb, DsocrError *err)
{
	WebPDemuxer *demux = open_file(bytes, len, max_pixels, header, err);
	WebPIterator frame;
	size_t stride = (size_t) header->width * 3;
	uint8_t *out = NULL;
	bool ok;

	if (demux == NULL)
		return false;
	if (!WebPDemuxGetFrame(demux, 1, &frame))
		ok = damaged(err);
	else
	{
		ok = check_frame(&frame, header, err) &&
			 (out = dsocr_zalloc(header->height, stride, err)) != NULL &&
			 decode_frame(&frame,
						  out + (size_t) frame.y_offset * stride + (size_t) frame.x_offset * 3,
						  stride, poll, err);
		WebPDemuxReleaseIterator(&frame);
	}
	WebPDemuxDelete(demux);
	if (!ok)
	{
		dsocr_free(out);
		return false;
	}
	*rgb = out;
	return true;
}

#endif
