/*-------------------------------------------------------------------------
 *
 * image.cu
 *		Pictures to rows: patches and 3x3 neighbourhoods.
 *
 *-------------------------------------------------------------------------
 */
#include "cuda.h"

#define IMAGE_THREADS 256
#define IMAGE_VECTOR 8 /* pixels of a thread of the fast kernel */

/* Value of a byte: (p / 255 - 0.5) / 0.5, rounded to bf16 in every precision. */
static __device__ __forceinline__ float
image_value(int p)
{
	return __bfloat162float(__float2bfloat16_rn(((float) p / 255.0f - 0.5f) / 0.5f));
}

/* out[views, (size / patch)^2, 3, patch, patch], a thread an element; blockIdx.y is the view */
template <typename T>
static __global__ void
__launch_bounds__(IMAGE_THREADS)
	image_patches_plain(T *out, const uint8_t *rgb, int size, int patch)
{
	int side = size / patch;
	size_t area = (size_t) patch * patch;
	size_t n = (size_t) side * side * 3 * area;
	size_t i = (size_t) blockIdx.x * IMAGE_THREADS + threadIdx.x;
	size_t token, y, x;
	int c;

	if (i >= n)
		return;
	token = i / (3 * area);
	c = (int) (i / area % 3);
	y = token / side * patch + i % area / patch;
	x = token % side * patch + i % patch;
	out[blockIdx.y * n + i] = dsocr_from_float<T>(
		image_value(rgb[((size_t) blockIdx.y * size * size + y * size + x) * 3 + c]));
}

/*
 * The same for bf16 and patches of a multiple of 8: a thread takes the three
 * channels of 8 pixels, and threads of one patch follow each other, so that a
 * patch's channel is written in one piece.
 */
static __global__ void
__launch_bounds__(IMAGE_THREADS)
	image_patches(__nv_bfloat16 *out, const uint8_t *rgb, int size, int patch)
{
	__shared__ float value[256];
	unsigned side = (unsigned) (size / patch);
	unsigned across = (unsigned) patch / IMAGE_VECTOR; /* threads a row of the patch */
	unsigned each = across * (unsigned) patch;
	unsigned i = blockIdx.x * IMAGE_THREADS + threadIdx.x;
	unsigned token = i / each;
	unsigned row = i % each / across;
	unsigned col = i % across * IMAGE_VECTOR;
	size_t area = (size_t) patch * patch;
	size_t at;
	__nv_bfloat16 *to;
	uint2 raw[3];
	uint8_t bytes[3 * IMAGE_VECTOR];

	value[threadIdx.x] = image_value((int) threadIdx.x);
	__syncthreads();
	if (token >= side * side)
		return;
	at = ((size_t) blockIdx.y * size + token / side * patch + row) * size + token % side * patch +
		 col;
	for (int j = 0; j < 3; j++)
		raw[j] = __ldg((const uint2 *) (rgb + at * 3) + j);
#pragma unroll
	for (int j = 0; j < 3 * IMAGE_VECTOR; j++)
		bytes[j] = (uint8_t) ((j % 8 < 4 ? raw[j / 8].x : raw[j / 8].y) >> j % 4 * 8);
	to = out + ((size_t) blockIdx.y * side * side + token) * 3 * area + (size_t) row * patch + col;
#pragma unroll
	for (int c = 0; c < 3; c++)
	{
		uint32_t pairs[4];

#pragma unroll
		for (int j = 0; j < 4; j++)
			pairs[j] = dsocr_pack_bf16(value[bytes[6 * j + c]], value[bytes[6 * j + 3 + c]]);
		*(uint4 *) (to + c * area) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
	}
}

/*
 * out[views, oh * ow, 9, channels] of units U, which are elements or 16 bytes
 * of them.  Threads y share out the output pixels, threads x the channels;
 * blockIdx.y is the view.
 */
template <typename U>
static __global__ void
__launch_bounds__(IMAGE_THREADS)
	image_im2col3(U *out, const U *x, int h, int w, int channels, int stride)
{
	int oh = (h - 1) / stride + 1;
	int ow = (w - 1) / stride + 1;
	int at = blockIdx.x * blockDim.y + threadIdx.y;
	const U *in = x + (size_t) blockIdx.y * h * w * channels;
	U *to = out + ((size_t) blockIdx.y * oh * ow + at) * 9 * channels;
	int top = at / ow * stride - 1;
	int left = at % ow * stride - 1;

	if (at >= oh * ow)
		return;
	for (int c = threadIdx.x; c < channels; c += blockDim.x)
	{
		U v[9];

#pragma unroll
		for (int k = 0; k < 9; k++)
		{
			int iy = top + k / 3;
			int ix = left + k % 3;

			v[k] = U();
			if (iy >= 0 && iy < h && ix >= 0 && ix < w)
				v[k] = in[((size_t) iy * w + ix) * channels + c];
		}
#pragma unroll
		for (int k = 0; k < 9; k++)
			to[(size_t) k * channels + c] = v[k];
	}
}

/* ---- launchers ---- */

void
dsocr_cuda_patches(DsocrBackend *be, void *out, const uint8_t *const *rgb, int views, int size,
				   int patch)
{
	DsocrCuda *c = (DsocrCuda *) be;
	size_t bytes = (size_t) size * size * 3;
	size_t n = (size_t) (size / patch) * (size / patch) * 3 * patch * patch;
	bool wide = dsocr_cuda_bf16(c) && patch % IMAGE_VECTOR == 0 && size % patch == 0 &&
				(uintptr_t) out % 16 == 0;
	size_t threads = wide ? n / (3 * IMAGE_VECTOR) : n;
	dim3 grid((unsigned) ((threads + IMAGE_THREADS - 1) / IMAGE_THREADS), (unsigned) views);
	uint8_t *pixels;
	cudaError_t rc;

	if (views <= 0 || n == 0)
		return;
	pixels = (uint8_t *) dsocr_cuda_scratch(c, DSOCR_SCRATCH_PIXELS, bytes * views);
	if (pixels == NULL)
		return;
	for (int i = 0; i < views; i++)
		dsocr_cuda_upload(c, pixels + bytes * i, rgb[i], bytes);
	if (wide)
		rc = dsocr_launch(image_patches, grid, dim3(IMAGE_THREADS), 0, c->stream,
						  (__nv_bfloat16 *) out, (const uint8_t *) pixels, size, patch);
	else if (dsocr_cuda_bf16(c))
		rc = dsocr_launch(image_patches_plain<__nv_bfloat16>, grid, dim3(IMAGE_THREADS), 0,
						  c->stream, (__nv_bfloat16 *) out, (const uint8_t *) pixels, size, patch);
	else
		rc = dsocr_launch(image_patches_plain<float>, grid, dim3(IMAGE_THREADS), 0, c->stream,
						  (float *) out, (const uint8_t *) pixels, size, patch);
	dsocr_cuda_check(c, rc, "patches");
}

template <typename U>
static cudaError_t
image_launch_im2col3(DsocrCuda *c, void *out, const void *x, int views, int h, int w, int units,
					 int stride)
{
	unsigned pixels = (unsigned) ((h - 1) / stride + 1) * (unsigned) ((w - 1) / stride + 1);
	unsigned across = 32;
	unsigned down;

	while (across < (unsigned) units && across < IMAGE_THREADS)
		across *= 2;
	down = IMAGE_THREADS / across;
	return dsocr_launch(image_im2col3<U>, dim3((pixels + down - 1) / down, (unsigned) views),
						dim3(across, down), 0, c->stream, (U *) out, (const U *) x, h, w, units,
						stride);
}

void
dsocr_cuda_im2col3(DsocrBackend *be, void *out, const void *x, int views, int h, int w,
				   int channels, int stride)
{
	DsocrCuda *c = (DsocrCuda *) be;
	size_t bytes = (size_t) channels * be->act_size;
	cudaError_t rc;

	if (views <= 0 || channels <= 0)
		return;
	if (bytes % 16 == 0 && ((uintptr_t) out | (uintptr_t) x) % 16 == 0)
		rc = image_launch_im2col3<uint4>(c, out, x, views, h, w, (int) (bytes / 16), stride);
	else if (dsocr_cuda_bf16(c))
		rc = image_launch_im2col3<uint16_t>(c, out, x, views, h, w, channels, stride);
	else
		rc = image_launch_im2col3<uint32_t>(c, out, x, views, h, w, channels, stride);
	dsocr_cuda_check(c, rc, "im2col3");
}
