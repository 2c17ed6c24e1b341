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

void
dsocr_check_model(DsocrCheck *c, const char *dir)
{
	DsocrBackendOptions options = {.precision = c->precision, .threads = c->threads};
	DsocrError err = {0};
	char pattern[4096];
	glob_t found = {0};
	DsocrBackend *be = dsocr_cpu_open(&options, &err);
	DsocrModel *m = be != NULL ? dsocr_check_open(c, be, dir, &err) : NULL;

	dsocr_check(c, m != NULL, dir, "%s", err.message);
	snprintf(pattern, sizeof(pattern), "%s/cases/*.json", dir);
	if (m != NULL &&
		dsocr_check(c, glob(pattern, 0, NULL, &found) == 0, dir, "no cases in %s", pattern))
		for (size_t i = 0; i < found.gl_pathc; i++)
			dsocr_check_case_on(c, m, found.gl_pathv[i]);
	globfree(&found);
	dsocr_model_close(m);
	if (be != NULL)
		be->ops->close(be);
}
