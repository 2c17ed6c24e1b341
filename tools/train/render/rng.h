/*-------------------------------------------------------------------------
 *
 * rng.h
 *		Random numbers of the page renderer.
 *
 * A page is a function of its request line alone, so that a run can be
 * repeated and resumed: every choice comes from one generator, seeded once
 * for each page.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RENDER_RNG_H
#define RENDER_RNG_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Rng
{
	uint64_t s[2];
} Rng;

static inline uint64_t
rng_mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline void
rng_seed(Rng *r, uint64_t seed)
{
	r->s[0] = rng_mix(seed + 0x9e3779b97f4a7c15u);
	r->s[1] = rng_mix(seed + 2 * 0x9e3779b97f4a7c15u) | 1;
}

static inline uint64_t
rng_next(Rng *r)
{
	uint64_t a = r->s[0];
	uint64_t b = r->s[1];

	r->s[0] = b;
	a ^= a << 23;
	r->s[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
	return r->s[1] + b;
}

/* [0, 1) */
static inline float
rng_unit(Rng *r)
{
	return (float) (rng_next(r) >> 40) * 0x1p-24f;
}

static inline float
rng_between(Rng *r, float lo, float hi)
{
	return lo + (hi - lo) * rng_unit(r);
}

/* lo .. hi, both included */
static inline int
rng_int(Rng *r, int lo, int hi)
{
	if (hi <= lo)
		return lo;
	return lo + (int) (((rng_next(r) >> 32) * (uint64_t) (hi - lo + 1)) >> 32);
}

static inline bool
rng_chance(Rng *r, float p)
{
	return rng_unit(r) < p;
}

static inline char
rng_letter(Rng *r, const char *from, int n)
{
	return from[rng_int(r, 0, n - 1)];
}

#endif
