/*-------------------------------------------------------------------------
 *
 * encoding.c
 *		Text between the engine (UTF-8) and the database.
 *
 * A page may show any character, and a reading that fails because one of a
 * thousand has no place in LATIN1 helps nobody: such characters become '?'.
 * The engine promises valid UTF-8, but it handles hostile images in another
 * process, so its bytes are checked before they become text of the database.
 *
 *-------------------------------------------------------------------------
 */
#include "encoding.h"

#include "catalog/pg_conversion.h"
#include "catalog/pg_namespace.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

/* Bytes converted by one call; bounds the buffer for its output. */
#define CONVERSION_CHUNK 8192

/*
 * Append what can be converted of len bytes of valid UTF-8 and return how
 * many bytes that was; the character behind them has no equivalent.
 */
static int
append_converted(StringInfo out, Oid proc, int encoding, const char *utf8, int len)
{
	int start = out->len;
	int done = 0;

	if (encoding == PG_UTF8)
	{
		appendBinaryStringInfo(out, utf8, len);
		return len;
	}
	if (!OidIsValid(proc))
	{
		/* no conversion exists for this encoding: only ASCII is common ground */
		while (done < len && !IS_HIGHBIT_SET(utf8[done]))
			done++;
		appendBinaryStringInfo(out, utf8, done);
		return done;
	}
	enlargeStringInfo(out, len * MAX_CONVERSION_GROWTH + 1);
	done = pg_do_encoding_conversion_buf(proc, PG_UTF8, encoding, (unsigned char *) utf8, len,
										 (unsigned char *) out->data + start, out->maxlen - start,
										 true);
	out->len = start + strlen(out->data + start);
	return done;
}

char *
dsocr_encoding_to_server(char *utf8, int *replaced)
{
	size_t left = strlen(utf8);
	int encoding = GetDatabaseEncoding();
	const char *p = utf8;
	Oid proc = InvalidOid;
	StringInfoData out;
	int lost = 0;

	if (encoding == PG_SQL_ASCII)
		return utf8;
	if (left > MaxAllocSize / MAX_CONVERSION_GROWTH)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("text is too long")));
	if (encoding == PG_UTF8 && pg_encoding_verifymbstr(PG_UTF8, utf8, left) == left)
		return utf8;

	/* Not FindDefaultConversionProc: the search path must have no say in this. */
	if (encoding != PG_UTF8)
		proc = FindDefaultConversion(PG_CATALOG_NAMESPACE, PG_UTF8, encoding);

	initStringInfo(&out);
	while (left > 0)
	{
		/* A character cut by the end of the chunk waits for the next one. */
		int valid = pg_encoding_verifymbstr(PG_UTF8, p, Min(left, CONVERSION_CHUNK));

		if (valid == 0)
		{
			appendStringInfoChar(&out, '?');
			lost++;
			p++;
			left--;
			continue;
		}
		left -= valid;
		while (valid > 0)
		{
			int done = append_converted(&out, proc, encoding, p, valid);

			if (done < valid)
			{
				appendStringInfoChar(&out, '?');
				lost++;
				done += Min(pg_utf_mblen((const unsigned char *) p + done), valid - done);
			}
			p += done;
			valid -= done;
		}
	}
	if (replaced)
		*replaced += lost;
	return out.data;
}

char *
dsocr_encoding_to_utf8(char *text)
{
	return pg_server_to_any(text, strlen(text), PG_UTF8);
}

void
dsocr_encoding_notice(int replaced)
{
	if (replaced > 0)
		ereport(NOTICE,
				(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
				 errmsg_plural("%d character has no equivalent in encoding \"%s\" and was replaced",
							   "%d characters have no equivalent in encoding \"%s\" and were "
							   "replaced",
							   replaced, replaced, GetDatabaseEncodingName())));
}
