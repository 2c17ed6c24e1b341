/*-------------------------------------------------------------------------
 *
 * read.c
 *		A reading function that reaches into the engine and forgets its SQLSTATE.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "queue.h"
#include "engine/request.h"
#include "engine/encoder.h" /* expect: includes */

#if PG_VERSION_NUM >= 160000 /* expect: version */
#endif

static void
refuse(void)
{
	ereport(ERROR, (errmsg("no code"))); /* expect: ereport */
	ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("code")));
	ereport(LOG, (errmsg("no error")));
}

void
helper(void) /* expect: prefix */
{
	refuse();
}

void
dsocr_read(void)
{
	helper();
}
