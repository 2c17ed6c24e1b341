/*-------------------------------------------------------------------------
 *
 * surface.h
 *		Between the pixels of cairo and ours.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SURFACE_H
#define DSOCR_SURFACE_H

#include <cairo.h>

#include "raster.h"

/* Longest side of a surface, pixels. */
#define DSOCR_SURFACE_MAX_SIDE 32000

/* A white surface without transparency; NULL and *err when there is no memory. */
extern cairo_surface_t *dsocr_surface_create(int width, int height, DsocrError *err);

/* The same with a page on it. */
extern cairo_surface_t *dsocr_surface_of(const DsocrRaster *r, DsocrError *err);

/* Its pixels, with one channel where there is no colour.  Destroys the surface. */
extern bool dsocr_surface_take(cairo_surface_t *surface, DsocrRaster *r, DsocrError *err);

#endif /* DSOCR_SURFACE_H */
