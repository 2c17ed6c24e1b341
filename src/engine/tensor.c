/*-------------------------------------------------------------------------
 *
 * tensor.c
 *		Elements of a tensor, whatever their type.
 *
 * Apart from weights.c because backends that are loaded have this code too.
 *
 *-------------------------------------------------------------------------
 */
#include "weights.h"

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
	}
	return 0;
}
