/*-------------------------------------------------------------------------
 *
 * effects.c
 *		What paper, scanners and file formats do to a page.
 *
 *-------------------------------------------------------------------------
 */
#include "effects.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "text.h"

static uint8_t
clamp(int v)
{
	return (uint8_t) (v < 0 ? 0 : v > 255 ? 255 : v);
}

/* to_view = m o to_view */
static void
add_transform(Page *p, const float m[6])
{
	float t[6];

	memcpy(t, p->to_view, sizeof(t));
	p->to_view[0] = m[0] * t[0] + m[1] * t[3];
	p->to_view[1] = m[0] * t[1] + m[1] * t[4];
	p->to_view[2] = m[0] * t[2] + m[1] * t[5] + m[2];
	p->to_view[3] = m[3] * t[0] + m[4] * t[3];
	p->to_view[4] = m[3] * t[1] + m[4] * t[4];
	p->to_view[5] = m[3] * t[2] + m[4] * t[5] + m[5];
}

void
effect_skew(Page *p, float degrees)
{
	float a = degrees * 3.14159265f / 180.0f;
	float c = cosf(a);
	float s = sinf(a);
	float cx = (float) p->w / 2;
	float cy = (float) p->h / 2;
	float there[6] = {c, -s, cx - c * cx + s * cy, s, c, cy - s * cx - c * cy};
	uint8_t *out = malloc((size_t) p->w * (size_t) p->h);

	if (!out)
		abort();
	for (int y = 0; y < p->h; y++)
	{
		/* back from (x, y): 16.16 fixed point, stepped along the row */
		int64_t fx =
			(int64_t) ((c * (0.5f - cx) + s * ((float) y + 0.5f - cy) + cx - 0.5f) * 65536);
		int64_t fy =
			(int64_t) ((-s * (0.5f - cx) + c * ((float) y + 0.5f - cy) + cy - 0.5f) * 65536);
		int64_t dx = (int64_t) (c * 65536);
		int64_t dy = (int64_t) (-s * 65536);
		uint8_t *to = out + (size_t) y * (size_t) p->w;

		for (int x = 0; x < p->w; x++, fx += dx, fy += dy)
		{
			int ix = (int) (fx >> 16);
			int iy = (int) (fy >> 16);
			int ux = (int) (fx >> 8) & 255;
			int uy = (int) (fy >> 8) & 255;
			const uint8_t *at;

			if (ix < 0 || iy < 0 || ix >= p->w - 1 || iy >= p->h - 1)
			{
				to[x] = 255;
				continue;
			}
			at = p->px + (size_t) iy * (size_t) p->w + ix;
			to[x] = (uint8_t) (((at[0] * (256 - ux) + at[1] * ux) * (256 - uy) +
								(at[p->w] * (256 - ux) + at[p->w + 1] * ux) * uy + 32768) >>
							   16);
		}
	}
	free(p->px);
	p->px = out;
	add_transform(p, there);
}

void
effect_blur(Page *p, float sigma)
{
	int w = p->w;
	float e1 = expf(-0.5f / (sigma * sigma));
	float e2 = expf(-2.0f / (sigma * sigma));
	float sum = 1 + 2 * e1 + 2 * e2;
	int k1 = (int) (e1 / sum * 4096 + 0.5f);
	int k2 = (int) (e2 / sum * 4096 + 0.5f);
	int k0 = 4096 - 2 * k1 - 2 * k2;
	uint8_t *mid = malloc((size_t) w * (size_t) p->h);

	if (!mid)
		abort();
	memcpy(mid, p->px, (size_t) w * (size_t) p->h);
	for (int y = 0; y < p->h; y++)
	{
		const uint8_t *f = p->px + (size_t) y * (size_t) w;
		uint8_t *t = mid + (size_t) y * (size_t) w;

		for (int x = 2; x < w - 2; x++)
			t[x] = (uint8_t) ((k0 * f[x] + k1 * (f[x - 1] + f[x + 1]) + k2 * (f[x - 2] + f[x + 2]) +
							   2048) >>
							  12);
	}
	memcpy(p->px, mid, (size_t) w * (size_t) p->h);
	for (int y = 2; y < p->h - 2; y++)
	{
		const uint8_t *f = mid + (size_t) y * (size_t) w;
		uint8_t *t = p->px + (size_t) y * (size_t) w;

		for (int x = 0; x < w; x++)
			t[x] = (uint8_t) ((k0 * f[x] + k1 * (f[x - w] + f[x + w]) +
							   k2 * (f[x - 2 * w] + f[x + 2 * w]) + 2048) >>
							  12);
	}
	free(mid);
}

/* Normal noise out of a table that is read from a new place in every row. */
void
effect_noise(Page *p, float sigma)
{
	enum
	{
		TABLE = 8192
	};
	int16_t table[TABLE];
	Rng *r = p->rng;

	for (int i = 0; i < TABLE; i++)
	{
		uint64_t v = rng_next(r);
		int sum = -8 * 128;

		for (int k = 0; k < 8; k++)
			sum += (int) (v >> (8 * k) & 255);
		/* the sum of eight bytes has a deviation of 209 */
		table[i] = (int16_t) ((float) sum / 209.0f * sigma * 16);
	}
	for (int y = 0; y < p->h; y++)
	{
		uint8_t *row = p->px + (size_t) y * (size_t) p->w;
		int at = rng_int(r, 0, TABLE - 1);

		for (int x = 0; x < p->w;)
		{
			int n = TABLE - at < p->w - x ? TABLE - at : p->w - x;

			for (int k = 0; k < n; k++)
				row[x + k] = clamp(row[x + k] + ((table[at + k] + 8) >> 4));
			x += n;
			at = 0;
		}
	}
}

void
effect_specks(Page *p, int n)
{
	for (int i = 0; i < n; i++)
	{
		int x = rng_int(p->rng, 0, p->w - 1);
		int y = rng_int(p->rng, 0, p->h - 1);
		int side = rng_chance(p->rng, 0.2f) ? 2 : 1;

		page_fill(p, x, y, x + side, y + side, (uint8_t) rng_int(p->rng, 0, 255));
	}
}

/* Light that falls off in one direction. */
void
effect_shade(Page *p, float depth)
{
	float a = rng_between(p->rng, 0, 6.2831853f);
	int dx = (int) (cosf(a) * depth * 65536 / (float) p->w);
	int dy = (int) (sinf(a) * depth * 65536 / (float) p->h);

	for (int y = 0; y < p->h; y++)
	{
		uint8_t *row = p->px + (size_t) y * (size_t) p->w;
		int v = (int) ((1 - depth) * 65536) + dy * (y - p->h / 2) - dx * p->w / 2;

		for (int x = 0; x < p->w; x++, v += dx)
			row[x] = clamp((row[x] * (v >> 4)) >> 12);
	}
}

/* The back of the sheet shines through: faint mirrored lines of text. */
void
effect_bleed(Page *p, const Style *s)
{
	Style back = *s;
	Page other = *p;
	int strength = rng_int(p->rng, 12, 45);
	float base = rng_between(p->rng, 0, 40) + (float) s->size;
	float step = (float) s->size * rng_between(p->rng, 1.1f, 1.8f);

	other.px = malloc((size_t) p->w * (size_t) p->h);
	if (!other.px)
		abort();
	memset(other.px, 255, (size_t) p->w * (size_t) p->h);
	back.ink = 0;
	for (; base < (float) p->h; base += step)
	{
		float x = rng_between(p->rng, 0, 40);

		while (x < (float) p->w - 20)
		{
			Word w;

			text_words(p, &back, TEXT_RANDOM, &w, 1);
			x = page_draw(&other, &back, FACE_REGULAR, x, base, &w) + (float) s->size * 0.3f;
		}
	}
	for (int y = 0; y < p->h; y++)
	{
		uint8_t *row = p->px + (size_t) y * (size_t) p->w;
		const uint8_t *from = other.px + (size_t) y * (size_t) p->w;

		for (int x = 0; x < p->w; x++)
			row[x] = clamp(row[x] - ((255 - from[p->w - 1 - x]) * strength >> 8));
	}
	free(other.px);
}

void
effect_jpeg(Page *p, int quality)
{
	struct jpeg_compress_struct c;
	struct jpeg_decompress_struct d;
	struct jpeg_error_mgr error;
	unsigned char *bytes = NULL;
	unsigned long size = 0;

	c.err = jpeg_std_error(&error);
	jpeg_create_compress(&c);
	jpeg_mem_dest(&c, &bytes, &size);
	c.image_width = (JDIMENSION) p->w;
	c.image_height = (JDIMENSION) p->h;
	c.input_components = 1;
	c.in_color_space = JCS_GRAYSCALE;
	jpeg_set_defaults(&c);
	jpeg_set_quality(&c, quality, TRUE);
	jpeg_start_compress(&c, TRUE);
	while (c.next_scanline < c.image_height)
	{
		JSAMPROW row = p->px + (size_t) c.next_scanline * (size_t) p->w;

		jpeg_write_scanlines(&c, &row, 1);
	}
	jpeg_finish_compress(&c);
	jpeg_destroy_compress(&c);

	d.err = jpeg_std_error(&error);
	jpeg_create_decompress(&d);
	jpeg_mem_src(&d, bytes, size);
	jpeg_read_header(&d, TRUE);
	jpeg_start_decompress(&d);
	while (d.output_scanline < d.output_height)
	{
		JSAMPROW row = p->px + (size_t) d.output_scanline * (size_t) p->w;

		jpeg_read_scanlines(&d, &row, 1);
	}
	jpeg_finish_decompress(&d);
	jpeg_destroy_decompress(&d);
	free(bytes);
}

void
effects_apply(Page *p, const Style *s)
{
	const Request *q = p->request;
	Rng *r = p->rng;

	if (!rng_chance(r, q->effects))
		return;
	if (rng_chance(r, .12f))
		effect_bleed(p, s);
	if (rng_chance(r, .15f))
		effect_shade(p, rng_between(r, .03f, .25f));
	if (q->skew > 0 && rng_chance(r, .35f))
		effect_skew(p, q->skew * rng_unit(r) * rng_between(r, -1, 1));
	if (rng_chance(r, .35f))
		effect_blur(p, rng_between(r, .3f, .85f));
	if (rng_chance(r, .15f))
		effect_specks(p, rng_int(r, 5, p->w * p->h / 2000));
	if (rng_chance(r, .35f))
		effect_noise(p, rng_between(r, 1, 14));
	if (rng_chance(r, .35f))
		effect_jpeg(p, rng_int(r, 35, 92));
}
