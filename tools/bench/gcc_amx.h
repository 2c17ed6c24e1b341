/*-------------------------------------------------------------------------
 *
 * gcc_amx.h
 *		Included ahead of llama.cpp's sources (tools/bench/setup).
 *
 * gcc's own _tile_loadconfig reads eight bytes as far as the compiler knows,
 * which then leaves out the stores to the other 56; products in the matrix
 * unit end with an illegal instruction.
 *
 *-------------------------------------------------------------------------
 */
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define _tile_loadconfig(p) __asm__ volatile("ldtilecfg\t%0" : : "m"(*(const char(*)[64])(p)))
#endif
