/*-------------------------------------------------------------------------
 *
 * dispatch.c
 *		Chooses the instruction set; the only place that asks the processor.
 *
 *-------------------------------------------------------------------------
 */
#include "isa.h"

#include <stdlib.h>
#include <string.h>

static const DsocrIsa isa_generic = {"generic", &dsocr_vec_generic, &dsocr_matvec_generic,
									 &dsocr_attend_generic};
static const DsocrIsa isa_avx2 = {"avx2", &dsocr_vec_avx2, &dsocr_matvec_avx2, &dsocr_attend_avx2};
static const DsocrIsa isa_avx512 = {"avx512", &dsocr_vec_avx512, &dsocr_matvec_avx512,
									&dsocr_attend_avx512};

const DsocrIsa *
dsocr_isa_choose(void)
{
	const char *wish = getenv("DSOCR_ISA");
	bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
				  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");

	if (wish != NULL && strcmp(wish, "generic") == 0)
		return &isa_generic;
	if (wish != NULL && strcmp(wish, "avx2") == 0 && avx2)
		return &isa_avx2;
	if (avx512)
		return &isa_avx512;
	return avx2 ? &isa_avx2 : &isa_generic;
}
