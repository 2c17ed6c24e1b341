/*-------------------------------------------------------------------------
 *
 * request.c
 *		Names of modes and tasks; freeing results.
 *
 * Linked into the engine and into the PostgreSQL module.
 *
 *-------------------------------------------------------------------------
 */
#include "request.h"

#include <string.h>

const char *const dsocr_mode_names[DSOCR_N_MODES] = {
	[DSOCR_MODE_AUTO] = "auto",			[DSOCR_MODE_TINY] = "tiny",
	[DSOCR_MODE_SMALL] = "small",		[DSOCR_MODE_BASE] = "base",
	[DSOCR_MODE_LARGE] = "large",		[DSOCR_MODE_GUNDAM] = "gundam",
	[DSOCR_MODE_GUNDAM_M] = "gundam_m",
};

const char *const dsocr_task_names[DSOCR_N_TASKS] = {
	[DSOCR_TASK_MARKDOWN] = "markdown", [DSOCR_TASK_TEXT] = "text",
	[DSOCR_TASK_FIGURE] = "figure",		[DSOCR_TASK_DESCRIBE] = "describe",
	[DSOCR_TASK_LOCATE] = "locate",		[DSOCR_TASK_GENERATE] = "generate",
};

void
dsocr_result_free(DsocrResult *r)
{
	if (r == NULL)
		return;
	for (int i = 0; i < r->n_blocks && r->blocks != NULL; i++)
	{
		dsocr_free(r->blocks[i].label);
		dsocr_free(r->blocks[i].content);
		dsocr_free(r->blocks[i].boxes);
		dsocr_free(r->blocks[i].lines);
	}
	dsocr_free(r->blocks);
	dsocr_free(r->raw);
	dsocr_free(r->markdown);
	dsocr_free(r->prefix);
	dsocr_free(r->prefix_lines);
	dsocr_free(r->image);
	memset(r, 0, sizeof(*r));
}
