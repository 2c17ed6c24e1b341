/*-------------------------------------------------------------------------
 *
 * formula.c
 *		Chemical formulas as dsocr_figure writes them, checked in SQL.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "engine/smiles.h"

PG_FUNCTION_INFO_V1(dsocr_formula_check);

/* (valid, position, reason): NULL where the text is no SMILES at all. */
Datum
dsocr_formula_check(PG_FUNCTION_ARGS)
{
	text *formula = PG_GETARG_TEXT_PP(0);
	const char *why = NULL;
	size_t at = 0;
	DsocrSmiles form =
		dsocr_smiles_check(VARDATA_ANY(formula), VARSIZE_ANY_EXHDR(formula), &at, &why);
	Datum values[3] = {BoolGetDatum(form == DSOCR_SMILES_VALID)};
	bool nulls[3] = {form == DSOCR_SMILES_NONE, true, true};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 3)
		elog(ERROR, "return type must be a row of three columns");
	if (form == DSOCR_SMILES_BROKEN)
	{
		nulls[1] = nulls[2] = false;
		values[1] = Int32GetDatum(pg_mbstrlen_with_len(VARDATA_ANY(formula), (int) at) + 1);
		values[2] = CStringGetTextDatum(why);
	}
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
