/*-------------------------------------------------------------------------
 *
 * view_row.c
 *		Rows of the functions behind views.
 *
 *-------------------------------------------------------------------------
 */
#include "view_row.h"
#include "shmem.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

void
dsocr_view_put(DsocrViewRow *row, Datum value)
{
	row->nulls[row->n] = false;
	row->values[row->n++] = value;
}

void
dsocr_view_null(DsocrViewRow *row)
{
	row->values[row->n] = (Datum) 0;
	row->nulls[row->n++] = true;
}

void
dsocr_view_text(DsocrViewRow *row, const char *text)
{
	if (text[0] == '\0')
		dsocr_view_null(row);
	else
		dsocr_view_put(row, CStringGetTextDatum(text));
}

void
dsocr_view_number(DsocrViewRow *row, int number)
{
	if (number == 0)
		dsocr_view_null(row);
	else
		dsocr_view_put(row, Int32GetDatum(number));
}

void
dsocr_view_float(DsocrViewRow *row, double value)
{
	if (value < 0)
		dsocr_view_null(row);
	else
		dsocr_view_put(row, Float8GetDatum(value));
}

ReturnSetInfo *
dsocr_view_begin(FunctionCallInfo fcinfo, int columns)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	dsocr_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	if (rsinfo->setDesc->natts != columns)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("extension dsocr does not fit to its library"),
						errhint("Run \"ALTER EXTENSION dsocr UPDATE\".")));
	return rsinfo;
}

void
dsocr_view_end_row(ReturnSetInfo *rsinfo, DsocrViewRow *row)
{
	Assert(row->n == rsinfo->setDesc->natts);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row->values, row->nulls);
	row->n = 0;
}
