/*-------------------------------------------------------------------------
 *
 * image.c
 *		Pictures to rows: patches and 3x3 neighbourhoods.
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#include <string.h>

typedef struct Patches
{
	float *out;
	const uint8_t *const *rgb;
	int size;
	int patch;
	float value[256]; /* of each byte */
} Patches;

static void
image_patch_rows(DsocrCpu *cpu, void *arg, size_t from, size_t to)
{
	const Patches *p = arg;
	size_t patch = (size_t) p->patch;
	size_t side = (size_t) p->size / patch;

	for (size_t at = from * side; at < to * side; at++)
	{
		float *out = p->out + at * 3 * patch * patch;
		size_t row = at / side % side;
		const uint8_t *corner =
			p->rgb[at / side / side] + (row * patch * (size_t) p->size + at % side * patch) * 3;

		for (size_t y = 0; y < patch; y++)
			for (size_t x = 0; x < patch; x++)
				for (size_t c = 0; c < 3; c++)
					out[(c * patch + y) * patch + x] =
						p->value[corner[(y * (size_t) p->size + x) * 3 + c]];
	}
}

void
dsocr_cpu_patches(DsocrBackend *be, void *out, const uint8_t *const *rgb, int views, int size,
				  int patch)
{
	Patches p = {.out = out, .rgb = rgb, .size = size, .patch = patch};

	for (int i = 0; i < 256; i++)
		p.value[i] = dsocr_bf16_to_f32(dsocr_f32_to_bf16(((float) i / 255.0f - 0.5f) / 0.5f));
	dsocr_cpu_ranges((DsocrCpu *) be, (size_t) views * (size_t) (size / patch), 4, image_patch_rows,
					 &p);
}

typedef struct Im2col
{
	float *out;
	const float *x;
	int h;
	int w;
	int oh;
	int ow;
	size_t channels;
	int stride;
} Im2col;

static void
image_im2col_rows(DsocrCpu *cpu, void *arg, size_t from, size_t to)
{
	const Im2col *m = arg;
	size_t bytes = m->channels * sizeof(float);
	float *out = m->out + from * (size_t) m->ow * 9 * m->channels;

	for (size_t row = from; row < to; row++)
	{
		int oy = (int) (row % (size_t) m->oh);
		const float *in = m->x + row / (size_t) m->oh * (size_t) m->h * (size_t) m->w * m->channels;

		for (int ox = 0; ox < m->ow; ox++)
			for (int k = 0; k < 9; k++, out += m->channels)
			{
				int y = oy * m->stride + k / 3 - 1;
				int x = ox * m->stride + k % 3 - 1;

				if (y >= 0 && y < m->h && x >= 0 && x < m->w)
					memcpy(out, in + ((size_t) y * m->w + (size_t) x) * m->channels, bytes);
				else
					memset(out, 0, bytes);
			}
	}
}

void
dsocr_cpu_im2col3(DsocrBackend *be, void *out, const void *x, int views, int h, int w, int channels,
				  int stride)
{
	Im2col m = {
		.out = out, .x = x, .h = h, .w = w, .channels = (size_t) channels, .stride = stride};

	m.oh = (h - 1) / stride + 1;
	m.ow = (w - 1) / stride + 1;
	dsocr_cpu_ranges((DsocrCpu *) be, (size_t) views * (size_t) m.oh, 4, image_im2col_rows, &m);
}
