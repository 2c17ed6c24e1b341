/*-------------------------------------------------------------------------
 *
 * check_model.c
 *		All golden cases of a checkpoint folder.
 *
 *-------------------------------------------------------------------------
 */
#include "check_case.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>

#include "device.h"

static void
close_model(DsocrModel *m)
{
	DsocrBackend *be = m != NULL ? m->be : NULL;

	dsocr_model_close(m);
	if (be != NULL)
		be->ops->close(be);
}

static DsocrModel *
open_model(DsocrCheck *c, const char *device, DsocrPrecision precision, DsocrDtype weights,
		   const char *dir)
{
	DsocrBackendOptions options = {
		.device = device, .precision = precision, .weights = weights, .threads = c->threads};
	DsocrError err = {0};
	DsocrBackend *be = dsocr_device_open(&options, &err);
	DsocrModel *m = be != NULL ? dsocr_check_open(c, be, dir, &err) : NULL;

	dsocr_check(c, m != NULL, dir, "%s", err.message);
	if (m == NULL && be != NULL)
		be->ops->close(be);
	return m;
}

void
dsocr_check_model(DsocrCheck *c, const char *dir)
{
	char pattern[4096];
	glob_t found = {0};
	DsocrModel *m = open_model(c, c->device, c->precision, c->weights, dir);
	DsocrModel *exact = NULL;

	if (m != NULL && c->precision != DSOCR_PRECISION_FP32)
		exact = open_model(c, "cpu", DSOCR_PRECISION_FP32, DSOCR_BF16, dir);
	snprintf(pattern, sizeof(pattern), "%s/cases/*.json", dir);
	if (m != NULL &&
		dsocr_check(c, glob(pattern, 0, NULL, &found) == 0, dir, "no cases in %s", pattern))
		for (size_t i = 0; i < found.gl_pathc; i++)
			dsocr_check_case_on(c, m, exact, found.gl_pathv[i]);
	globfree(&found);
	close_model(m);
	close_model(exact);
}
