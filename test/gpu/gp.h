/*-------------------------------------------------------------------------
 *
 * gp.h
 *		What the programs in this folder share: options, pages, counting.
 *
 * They are made for a GPU and run on any device: "cpu" tests the programs
 * themselves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_GP_H
#define DSOCR_GP_H

#include "backend.h"
#include "request.h"

typedef struct GpOptions
{
	const char *model;
	const char *tools; /* library of gp_tools.h, or NULL */
	DsocrBackendOptions backend;
	int pages;
	int batch;
	int tokens;
	uint64_t seed;
	bool quick; /* small dimensions, one run: to try the program */
	bool list;	/* name what would be measured, measure nothing */
	bool once;	/* one run of each, for profilers and checkers */
	const char *filter;
} GpOptions;

/*
 * Read --model DIR --device NAME --precision NAME --memory MB --threads N
 * --tools FILE --pages N --batch N --tokens N --seed N --filter TEXT --quick
 * --list --once.  A wrong option ends the program with status 2.
 */
extern void gp_options(int argc, char **argv, GpOptions *o);

/* ---- counting ---- */

extern int gp_passed;
extern int gp_failed;

/* Count; a failure is printed.  Returns ok. */
extern bool gp_check(bool ok, const char *fmt, ...) DSOCR_PRINTF(2, 3);

/* Print the closing line; the exit status of the program. */
extern int gp_close_line(void);

/* A failed program says why and ends with status 1. */
extern void gp_die(const char *fmt, ...) DSOCR_PRINTF(1, 2) __attribute__((noreturn));

/* p, or the end of the program when it is NULL. */
extern void *gp_need(void *p, const DsocrError *err);

/* ---- numbers and pages ---- */

extern uint64_t gp_next(uint64_t *seed);
extern int gp_between(uint64_t *seed, int low, int high);

/* bf16 values in (-scale, scale), not zero, from a cheap formula */
extern void gp_halves(uint16_t *out, size_t n, float scale, uint64_t seed);

/*
 * A PNG of lines of dark strokes on paper, like a page from afar; another one
 * for each seed.  The buffer is overwritten.
 */
extern void gp_page(DsocrBuffer *png, int width, int height, uint64_t seed);

extern double gp_median(double *values, int n);

#endif /* DSOCR_GP_H */
