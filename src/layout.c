/*-------------------------------------------------------------------------
 *
 * layout.c
 *		The layout of a page as jsonb and as rows.
 *
 * Boxes are pixels of the upright page image, origin at the upper left.  In
 * jsonb they stay as the model gave them, [x1, y1, x2, y2]; type box orders
 * its corners itself, so box[0] holds the larger x and y.
 *
 * Text that the model wrote outside of blocks is not lost: what stands before
 * the first one is an element of type text without a box.
 *
 *-------------------------------------------------------------------------
 */
#include "layout.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/geo_decls.h"
#include "utils/numeric.h"
#include "encoding.h"

/* A document of one image has one page. */
#define THE_PAGE 1

static void
push_int(JsonbParseState **state, JsonbIteratorToken token, int64 value)
{
	JsonbValue v = {.type = jbvNumeric, .val.numeric = int64_to_numeric(value)};

	pushJsonbValue(state, token, &v);
}

void
dsocr_json_key(JsonbParseState **state, const char *key)
{
	JsonbValue v = {.type = jbvString, .val.string = {.val = (char *) key, .len = strlen(key)}};

	pushJsonbValue(state, WJB_KEY, &v);
}

void
dsocr_json_int(JsonbParseState **state, const char *key, int64 value)
{
	dsocr_json_key(state, key);
	push_int(state, WJB_VALUE, value);
}

void
dsocr_json_ms(JsonbParseState **state, const char *key, int64 microseconds)
{
	JsonbValue v = {.type = jbvNumeric, .val.numeric = int64_div_fast_to_numeric(microseconds, 3)};

	dsocr_json_key(state, key);
	pushJsonbValue(state, WJB_VALUE, &v);
}

void
dsocr_json_text(JsonbParseState **state, const char *key, char *value)
{
	JsonbValue v = {.type = jbvString, .val.string = {.val = value, .len = strlen(value)}};

	dsocr_json_key(state, key);
	pushJsonbValue(state, WJB_VALUE, &v);
}

/* The text before the first block as a block of its own; false if there is none. */
static bool
prefix_block(const DsocrResult *result, DsocrBlock *block)
{
	*block = (DsocrBlock){.label = "text", .content = result->prefix};
	return result->prefix != NULL && result->prefix[0] != '\0';
}

static void
push_block(JsonbParseState **state, const DsocrBlock *block, int *replaced)
{
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	dsocr_json_text(state, "type", dsocr_encoding_to_server(block->label, replaced));
	dsocr_json_key(state, "boxes");
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < block->n_boxes; i++)
	{
		pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
		for (int k = 0; k < 4; k++)
			push_int(state, WJB_ELEM, block->boxes[i][k]);
		pushJsonbValue(state, WJB_END_ARRAY, NULL);
	}
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
	dsocr_json_text(state, "text", dsocr_encoding_to_server(block->content, replaced));
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

Datum
dsocr_layout_jsonb(const DsocrResult *result, int *replaced)
{
	JsonbParseState *state = NULL;
	DsocrBlock prefix;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	dsocr_json_key(&state, "pages");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	dsocr_json_int(&state, "page", THE_PAGE);
	dsocr_json_int(&state, "width", result->width);
	dsocr_json_int(&state, "height", result->height);
	dsocr_json_key(&state, "elements");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	if (prefix_block(result, &prefix))
		push_block(&state, &prefix, replaced);
	for (int i = 0; i < result->n_blocks; i++)
	{
		CHECK_FOR_INTERRUPTS();
		push_block(&state, &result->blocks[i], replaced);
	}
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

static Datum
box_datum(const int32_t b[4])
{
	BOX *box = palloc(sizeof(BOX));

	box->high.x = Max(b[0], b[2]);
	box->high.y = Max(b[1], b[3]);
	box->low.x = Min(b[0], b[2]);
	box->low.y = Min(b[1], b[3]);
	return BoxPGetDatum(box);
}

/* A row for each box of a block, or one with a NULL box. */
static void
put_block(const DsocrBlock *block, int ord, ReturnSetInfo *rsinfo, int *replaced)
{
	Datum values[5];
	bool nulls[5] = {false};

	values[0] = Int32GetDatum(THE_PAGE);
	values[1] = Int32GetDatum(ord);
	values[2] = CStringGetTextDatum(dsocr_encoding_to_server(block->label, replaced));
	values[4] = CStringGetTextDatum(dsocr_encoding_to_server(block->content, replaced));
	for (int k = 0; k < Max(block->n_boxes, 1); k++)
	{
		CHECK_FOR_INTERRUPTS();
		nulls[3] = block->n_boxes == 0;
		values[3] = nulls[3] ? (Datum) 0 : box_datum(block->boxes[k]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

void
dsocr_layout_rows(const DsocrResult *result, ReturnSetInfo *rsinfo, int *replaced)
{
	DsocrBlock prefix;
	int ord = 1;

	if (prefix_block(result, &prefix))
		put_block(&prefix, ord++, rsinfo, replaced);
	for (int i = 0; i < result->n_blocks; i++)
		put_block(&result->blocks[i], ord++, rsinfo, replaced);
}

void
dsocr_layout_boxes(const DsocrResult *result, ReturnSetInfo *rsinfo)
{
	for (int i = 0; i < result->n_blocks; i++)
		for (int k = 0; k < result->blocks[i].n_boxes; k++)
		{
			Datum values[2] = {Int32GetDatum(THE_PAGE), box_datum(result->blocks[i].boxes[k])};
			bool nulls[2] = {false};

			CHECK_FOR_INTERRUPTS();
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
}
