/*-------------------------------------------------------------------------
 *
 * gp_measure.h
 *		Inputs of operations, and the time that a launch takes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_GP_MEASURE_H
#define DSOCR_GP_MEASURE_H

#include "gp.h"
#include "gp_tools.h"

#define GP_MAX_ROTATED 32

/* What a program that measures operations works with. */
typedef struct GpMeasure
{
	GpOptions options;
	DsocrBackend *be; /* NULL in a list */
	const DsocrBackendOps *ops;
	const GpTools *tools;
	size_t act;	   /* bytes of an activation element */
	size_t rotate; /* bytes that inputs and weights rotate through */
} GpMeasure;

extern GpMeasure gp;

/* Open the device of gp.options, unless things are only listed. */
extern void gp_measure_open(void);

/* ---- inputs: several of each, so that no cache holds all of them ---- */

typedef struct GpRotated
{
	int n;
	void *p[GP_MAX_ROTATED];
} GpRotated;

/* n activations of random values, at most so many times. */
extern GpRotated gp_inputs(size_t n, int most);
extern void gp_inputs_free(GpRotated *r);

/* n bf16 values, smaller for products of many inputs; freed with dsocr_free. */
extern uint16_t *gp_weights(size_t n, int inputs_of_product);

/* W[n, k] */
extern DsocrMatrix *gp_matrix(const uint16_t *data, int n, int k);
extern GpRotated gp_matrices(int n, int k, int most);
extern void gp_matrices_free(GpRotated *r);

extern DsocrVector *gp_vector(size_t n);

/* ---- timing ---- */

/* Puts launch number i into the stream. */
typedef void (*GpLaunch)(void *arg, int i);

/* Is the case asked for?  In a list, name it and say no. */
extern bool gp_wanted(const char *name, double bytes, double flops);

/* Wait for the device; a failure ends the program. */
extern void gp_need_sync(const char *name);

/* Run a case and print its line.  Inputs of the arg are the caller's. */
extern void gp_measure(const char *name, double bytes, double flops, bool recordable,
					   GpLaunch launch, void *arg);

#endif /* DSOCR_GP_MEASURE_H */
