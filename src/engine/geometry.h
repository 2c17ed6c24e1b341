/*-------------------------------------------------------------------------
 *
 * geometry.h
 *		Drawings of plane geometry, as the model writes them down.
 *
 * The model answers with the text of a Python dictionary:
 *
 * {'Line': {'line': ['(0,0) -- (1,1)'], 'line_type': ['-'],
 *  'line_endpoint': ['A: (0,0)']},
 *  'Circle': {'circle_center': ['O: (0,0)'], 'radius': [5.0]}}
 *
 * The official code evaluates it; here it is read as data.  Entries that are
 * no points, lines or circles are left out, as officially.  Linked into the
 * engine and into the PostgreSQL module.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_GEOMETRY_H
#define DSOCR_GEOMETRY_H

#include "base.h"

#define DSOCR_GEOMETRY_LABEL 32 /* bytes of a label with its NUL */

typedef struct DsocrGeometryLine
{
	double from[2]; /* x, y; y grows upwards */
	double to[2];
	bool dashed; /* line type -- */
} DsocrGeometryLine;

typedef struct DsocrGeometryPoint
{
	char label[DSOCR_GEOMETRY_LABEL]; /* UTF-8, may be empty */
	double at[2];
} DsocrGeometryPoint;

typedef struct DsocrGeometryCircle
{
	char label[DSOCR_GEOMETRY_LABEL]; /* of the centre */
	double centre[2];
	double radius;
} DsocrGeometryCircle;

typedef struct DsocrGeometry
{
	int n_lines;
	DsocrGeometryLine *lines;
	int n_points;
	DsocrGeometryPoint *points;
	int n_circles;
	DsocrGeometryCircle *circles;
} DsocrGeometry;

/*
 * Read len bytes of UTF-8.  False with DSOCR_E_ARGUMENT when they are no such
 * dictionary, with DSOCR_E_MEMORY; nothing is left to free then.
 */
extern bool dsocr_geometry_parse(const char *text, size_t len, DsocrGeometry *g, DsocrError *err);
extern void dsocr_geometry_free(DsocrGeometry *g);

#endif /* DSOCR_GEOMETRY_H */
