/*-------------------------------------------------------------------------
 *
 * ahead.c
 *		Calls of reading functions that were begun before they are evaluated.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "ahead.h"

#include "utils/expandeddatum.h"
#include "utils/memutils.h"

struct DsocrAhead
{
	ExpandedObjectHeader header; /* must be first */
	DsocrCall *call;			 /* NULL once its value was taken */
	Datum value;
	bool isnull;
};

static Size
flat_size(ExpandedObjectHeader *header)
{
	elog(ERROR, "a document that stands for a call has no bytes");
	return 0;
}

static void
flatten(ExpandedObjectHeader *header, void *result, Size size)
{
	elog(ERROR, "a document that stands for a call has no bytes");
}

static const ExpandedObjectMethods methods = {flat_size, flatten};

DsocrAhead *
dsocr_ahead_create(MemoryContext context)
{
	DsocrAhead *ahead = MemoryContextAllocZero(context, sizeof(DsocrAhead));

	EOH_init_header(&ahead->header, &methods, context);
	return ahead;
}

Datum
dsocr_ahead_document(DsocrAhead *ahead)
{
	return EOHPGetRODatum(&ahead->header);
}

void
dsocr_ahead_set(DsocrAhead *ahead, DsocrCall *call)
{
	ahead->call = call;
}

DsocrAhead *
dsocr_ahead_of(FunctionCallInfo fcinfo)
{
	ExpandedObjectHeader *header;

	if (PG_NARGS() == 0 || PG_ARGISNULL(0) ||
		!VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(PG_GETARG_DATUM(0))))
		return NULL;
	header = DatumGetEOHP(PG_GETARG_DATUM(0));
	return header->eoh_methods == &methods ? (DsocrAhead *) header : NULL;
}

Datum
dsocr_ahead_value(DsocrAhead *ahead, FunctionCallInfo fcinfo)
{
	if (ahead->call != NULL)
	{
		DsocrCall *call = ahead->call;

		ahead->call = NULL;
		ahead->value = dsocr_call_value(call, fcinfo, &ahead->isnull);
	}
	fcinfo->isnull = ahead->isnull;
	return ahead->value;
}
