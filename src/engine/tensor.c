/*-------------------------------------------------------------------------
 *
 * tensor.c
 *		Elements of a tensor, whatever their type.
 *
 * Apart from weights.c because backends that are loaded have this code too.
 *
 *-------------------------------------------------------------------------
 */
#include "quantize.h"

#include <string.h>

/* IEEE half precision to single, exact. */
static float
half_to_float(uint16_t h)
{
	float magnitude;
	int exponent = h >> 10 & 31;
	int mantissa = h & 1023;

	if (exponent == 31)
		magnitude = mantissa != 0 ? __builtin_nanf("") : __builtin_inff();
	else if (exponent == 0)
		magnitude = (float) mantissa * 0x1p-24f;
	else
	{
		union
		{
			uint32_t u;
			float f;
		} v = {.u = (uint32_t) (exponent + 112) << 23 | (uint32_t) mantissa << 13};

		magnitude = v.f;
	}
	return (h & 0x8000) != 0 ? -magnitude : magnitude;
}

/* The value of row n and column k of a quantized matrix. */
static float
quantized_get(const DsocrTensor *t, const DsocrQuantShape *s, size_t n, size_t k)
{
	static const uint8_t levels[16] = DSOCR_QUANT_LEVELS;
	size_t r = n % DSOCR_QUANT_ROWS;
	size_t g = k / s->group;
	const uint8_t *panel = (const uint8_t *) t->data + n / DSOCR_QUANT_ROWS * s->panel_bytes;
	int code = panel[s->codes + g * s->group_bytes + dsocr_quant_place(s, r, k % s->group)];
	uint16_t scale;

	memcpy(&scale, panel + (g * DSOCR_QUANT_ROWS + r) * sizeof(scale), sizeof(scale));
	if (t->dtype == DSOCR_INT4)
		code = levels[k % s->group < DSOCR_QUANT_GROUP_4 / 2 ? code & 15 : code >> 4];
	return half_to_float(scale) * DSOCR_QUANT_SCALE * (float) (code - DSOCR_QUANT_ZERO);
}

size_t
dsocr_tensor_bytes(const DsocrTensor *t)
{
	DsocrQuantShape s;

	switch (t->dtype)
	{
		case DSOCR_INT8:
		case DSOCR_INT4:
			if (!dsocr_quant_shape(t->dtype, (size_t) t->shape[0], (size_t) t->shape[1], &s))
				return 0;
			return s.bytes;
		case DSOCR_F64:
		case DSOCR_I64:
			return (size_t) t->count * 8;
		case DSOCR_F32:
		case DSOCR_I32:
			return (size_t) t->count * 4;
		case DSOCR_BF16:
		case DSOCR_F16:
			return (size_t) t->count * 2;
		case DSOCR_I8:
		case DSOCR_U8:
			break;
	}
	return (size_t) t->count;
}

void
dsocr_tensor_row(const DsocrTensor *t, int64_t n, float *out)
{
	int64_t cols = t->count / t->shape[0];
	DsocrQuantShape s;

	if (dsocr_is_quantized(t->dtype) &&
		dsocr_quant_shape(t->dtype, (size_t) t->shape[0], (size_t) cols, &s))
	{
		for (size_t k = 0; k < (size_t) cols; k++)
			out[k] = quantized_get(t, &s, (size_t) n, k);
		return;
	}
	if (t->dtype == DSOCR_BF16)
	{
		const char *from = (const char *) t->data + n * cols * (int64_t) sizeof(uint16_t);

		for (int64_t k = 0; k < cols; k++)
		{
			uint16_t h;

			memcpy(&h, from + k * (int64_t) sizeof(h), sizeof(h));
			out[k] = dsocr_bf16_to_f32(h);
		}
		return;
	}
	for (int64_t k = 0; k < cols; k++)
		out[k] = dsocr_tensor_get(t, n * cols + k);
}

#define LOAD(type)                                                                                 \
	type v;                                                                                        \
	memcpy(&v, (const char *) t->data + (size_t) i * sizeof(type), sizeof(type))

float
dsocr_tensor_get(const DsocrTensor *t, int64_t i)
{
	switch (t->dtype)
	{
		case DSOCR_BF16:
		{
			LOAD(uint16_t);
			return dsocr_bf16_to_f32(v);
		}
		case DSOCR_F16:
		{
			LOAD(uint16_t);
			return half_to_float(v);
		}
		case DSOCR_F32:
		{
			LOAD(float);
			return v;
		}
		case DSOCR_F64:
		{
			LOAD(double);
			return (float) v;
		}
		case DSOCR_I64:
		{
			LOAD(int64_t);
			return (float) v;
		}
		case DSOCR_I32:
		{
			LOAD(int32_t);
			return (float) v;
		}
		case DSOCR_I8:
		{
			LOAD(int8_t);
			return v;
		}
		case DSOCR_U8:
		{
			LOAD(uint8_t);
			return v;
		}
		case DSOCR_INT8:
		case DSOCR_INT4:
		{
			DsocrQuantShape s;

			if (!dsocr_quant_shape(t->dtype, (size_t) t->shape[0], (size_t) t->shape[1], &s))
				return 0;
			return quantized_get(t, &s, (size_t) (i / t->shape[1]), (size_t) (i % t->shape[1]));
		}
	}
	return 0;
}
