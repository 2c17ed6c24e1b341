/*-------------------------------------------------------------------------
 *
 * fuzz_figures.c
 *		Formulas and drawings of hostile text: bounded, consistent, finite.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "geometry.h"
#include "smiles.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
demand(int ok)
{
	if (!ok)
		abort();
}

static void
demand_numbers(const double *v, int n)
{
	for (int i = 0; i < n; i++)
		demand(isfinite(v[i]));
}

static void
fuzz_geometry(const char *text, size_t len)
{
	DsocrGeometry g;
	DsocrError err = {0};

	if (!dsocr_geometry_parse(text, len, &g, &err))
	{
		demand(err.code == DSOCR_E_ARGUMENT && g.lines == NULL && g.points == NULL);
		return;
	}
	/* each entry takes several bytes */
	demand((size_t) (g.n_lines + g.n_points + g.n_circles) <= len / 5);
	for (int i = 0; i < g.n_lines; i++)
	{
		demand_numbers(g.lines[i].from, 2);
		demand_numbers(g.lines[i].to, 2);
	}
	for (int i = 0; i < g.n_points; i++)
	{
		demand_numbers(g.points[i].at, 2);
		demand(memchr(g.points[i].label, 0, DSOCR_GEOMETRY_LABEL) != NULL);
	}
	for (int i = 0; i < g.n_circles; i++)
	{
		demand_numbers(g.circles[i].centre, 2);
		demand(isfinite(g.circles[i].radius) && g.circles[i].radius >= 0);
	}
	dsocr_geometry_free(&g);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;
	size_t at = 0;
	const char *why = NULL;

	if (size < 1)
		return 0;
	text = malloc(size - 1 + (size == 1));
	demand(text != NULL);
	memcpy(text, data + 1, size - 1);
	if (data[0] % 2 == 0)
		fuzz_geometry(text, size - 1);
	else if (dsocr_smiles_check(text, size - 1, &at, &why) == DSOCR_SMILES_BROKEN)
		demand(at <= size - 1 && why != NULL);
	free(text);
	return 0;
}
