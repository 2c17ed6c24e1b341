/*-------------------------------------------------------------------------
 *
 * dispatch.c
 *		Chooses the instruction set; the only place that asks the processor.
 *
 *-------------------------------------------------------------------------
 */
#include "isa.h"

#include <cpuid.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ISA_REQ_XCOMP_PERM 0x1023 /* arch_prctl: ask for a large register state */
#define ISA_XTILEDATA 18

#define ISA_COMMON(isa)                                                                            \
	.vec = &dsocr_vec_##isa, .matvec = &dsocr_matvec_##isa, .attend = &dsocr_attend_##isa,         \
	.paged = dsocr_paged_##isa

static const DsocrIsa isa_generic = {
	.name = "generic", ISA_COMMON(generic), .quant = &dsocr_quant_generic};
static const DsocrIsa isa_avx2 = {.name = "avx2", ISA_COMMON(avx2), .quant = &dsocr_quant_avx2};
static const DsocrIsa isa_avx512 = {
	.name = "avx512", ISA_COMMON(avx512), .quant = &dsocr_quant_avx512};
static const DsocrIsa isa_vnni = {.name = "vnni", ISA_COMMON(avx512), .quant = &dsocr_quant_vnni};
static const DsocrIsa isa_amx = {.name = "amx",
								 ISA_COMMON(avx512),
								 .quant = &dsocr_quant_amx,
								 .tile = &dsocr_tile_avx512,
								 .block = &dsocr_block_avx512,
								 .tile_attend = &dsocr_tile_attend_avx512};

/* The matrix unit with bf16 and bytes, conversions to bf16 in vectors, and the kernel's permission for this process to use it. */
static bool
isa_has_amx(void)
{
	unsigned a, b, c, d;
	const unsigned bf16 = 1u << 22;
	const unsigned tile = 1u << 24;
	const unsigned int8 = 1u << 25;
	const unsigned vector_bf16 = 1u << 5;

	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) ||
		(d & (bf16 | tile | int8)) != (bf16 | tile | int8))
		return false;
	if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & vector_bf16))
		return false;
	return syscall(SYS_arch_prctl, ISA_REQ_XCOMP_PERM, ISA_XTILEDATA) == 0;
}

/* Not a name that every compiler's __builtin_cpu_supports knows. */
static bool
isa_has_f16c(void)
{
	unsigned a;
	unsigned b;
	unsigned c;
	unsigned d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}

const DsocrIsa *
dsocr_isa_choose(void)
{
	const char *wish = getenv("DSOCR_ISA");
	bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && isa_has_f16c();
	bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
				  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
	bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");

	if (wish != NULL && strcmp(wish, "generic") == 0)
		return &isa_generic;
	if (!avx2)
		return &isa_generic;
	if (!avx512 || (wish != NULL && strcmp(wish, "avx2") == 0))
		return &isa_avx2;
	if (!vnni || (wish != NULL && strcmp(wish, "avx512") == 0))
		return &isa_avx512;
	if ((wish != NULL && strcmp(wish, "vnni") == 0) || !isa_has_amx())
		return &isa_vnni;
	return &isa_amx;
}
