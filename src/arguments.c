/*-------------------------------------------------------------------------
 *
 * arguments.c
 *		Arguments of the functions that read documents.
 *
 *-------------------------------------------------------------------------
 */
#include "arguments.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_enum.h"
#include "utils/builtins.h"
#include "utils/rangetypes.h"
#include "utils/syscache.h"
#include "encoding.h"

DsocrMode
dsocr_mode_from_enum(Oid value)
{
	HeapTuple tuple = SearchSysCache1(ENUMOID, ObjectIdGetDatum(value));
	int mode = -1;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for enum %u", value);
	for (int i = 0; i < DSOCR_N_MODES; i++)
		if (strcmp(NameStr(((Form_pg_enum) GETSTRUCT(tuple))->enumlabel), dsocr_mode_names[i]) == 0)
			mode = i;
	ReleaseSysCache(tuple);
	if (mode < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("mode is not known to the installed library")));
	return (DsocrMode) mode;
}

DsocrMode
dsocr_mode_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? (DsocrMode) dsocr_mode : dsocr_mode_from_enum(PG_GETARG_OID(n));
}

/* A bound of a range of pages as the first (or last) page number that it lets in. */
static int32
bound_page(const RangeBound *bound, int32 unbounded)
{
	int32 page;

	if (bound->infinite)
		return unbounded;
	page = DatumGetInt32(bound->val);
	if (bound->inclusive)
		return page;
	if (bound->lower)
		return page == PG_INT32_MAX ? page : page + 1;
	return page == PG_INT32_MIN ? page : page - 1;
}

bool
dsocr_pages_argument(FunctionCallInfo fcinfo, int n, DsocrReadOptions *options)
{
	RangeType *pages;
	RangeBound lower;
	RangeBound upper;
	bool empty;

	if (PG_ARGISNULL(n))
		return true;
	pages = PG_GETARG_RANGE_P(n);
	range_deserialize(range_get_typcache(fcinfo, RangeTypeGetOid(pages)), pages, &lower, &upper,
					  &empty);
	if (empty)
		return false;
	options->first_page = Max(bound_page(&lower, 1), 1);
	options->last_page = bound_page(&upper, PG_INT32_MAX);
	return options->first_page <= options->last_page;
}

bool
dsocr_dpi_argument(FunctionCallInfo fcinfo, int n, DsocrReadOptions *options, DsocrError *err)
{
	if (PG_ARGISNULL(n))
		return true;
	options->dpi = PG_GETARG_INT32(n);
	if (options->dpi <= 0 || options->dpi > DSOCR_MAX_DPI)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "dpi must be between 1 and %d", DSOCR_MAX_DPI);
	return true;
}

bool
dsocr_limits_arguments(FunctionCallInfo fcinfo, int n, DsocrReadOptions *options, DsocrError *err)
{
	if (!PG_ARGISNULL(n))
	{
		options->max_tokens = PG_GETARG_INT32(n);
		if (options->max_tokens <= 0)
		{
			dsocr_fail(err, DSOCR_E_ARGUMENT, "max_tokens must be greater than 0");
			return dsocr_hint(err, "Leave max_tokens out to use the setting dsocr.max_tokens.");
		}
	}
	return dsocr_dpi_argument(fcinfo, n + 1, options, err);
}

char *
dsocr_text_argument(Datum datum, int most, const char *name, DsocrCode code, DsocrError *err)
{
	char *utf8 = NULL;

	if (toast_raw_datum_size(datum) - VARHDRSZ <= most)
		utf8 = dsocr_encoding_to_utf8(TextDatumGetCString(datum));
	if (utf8 != NULL && strlen(utf8) <= most)
		return utf8;
	dsocr_fail(err, code, "%s is longer than %d bytes", name, most);
	return NULL;
}

bool
dsocr_password_argument(FunctionCallInfo fcinfo, int n, DsocrReadOptions *options, DsocrError *err)
{
	if (PG_ARGISNULL(n))
		return true;
	options->password = dsocr_text_argument(PG_GETARG_DATUM(n), DSOCR_MAX_PASSWORD_BYTES,
											"password", DSOCR_E_ARGUMENT, err);
	return options->password != NULL;
}
