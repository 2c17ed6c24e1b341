/*-------------------------------------------------------------------------
 *
 * layout.c
 *		The layout of pages as jsonb and as rows.
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

#include <math.h>

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/geo_decls.h"
#include "utils/numeric.h"
#include "encoding.h"
#include "page_status.h"

/* Confidences and angles are given to so many decimals. */
#define DECIMALS 4

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

/* Rounded: shortest digits of a float would say more than is known. */
void
dsocr_json_number(JsonbParseState **state, const char *key, double value)
{
	double scale = pow(10, DECIMALS);
	int64 scaled = isfinite(value) ? (int64) rint(value * scale) : 0;
	JsonbValue v = {.type = jbvNumeric, .val.numeric = int64_div_fast_to_numeric(scaled, DECIMALS)};

	v.val.numeric =
		DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(v.val.numeric)));
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

JsonbValue *
dsocr_json_array(JsonbParseState **state, Jsonb *const *elements, int n)
{
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < n; i++)
	{
		JsonbValue v = {
			.type = jbvBinary,
			.val.binary = {.data = &elements[i]->root, .len = VARSIZE(elements[i]) - VARHDRSZ}};

		CHECK_FOR_INTERRUPTS();
		pushJsonbValue(state, WJB_ELEM, &v);
	}
	return pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

/* The text before the first block as a block of its own; false if there is none. */
static bool
prefix_block(const DsocrResult *result, DsocrBlock *block)
{
	*block = (DsocrBlock){.label = "text",
						  .content = result->prefix,
						  .confidence = result->prefix_confidence,
						  .n_lines = result->n_prefix_lines,
						  .lines = result->prefix_lines};
	return result->prefix != NULL && result->prefix[0] != '\0';
}

/* Several lines with how sure the model was of each; of a single one the block says it. */
static void
push_lines(JsonbParseState **state, const DsocrBlock *block)
{
	if (block->n_lines < 2)
		return;
	dsocr_json_key(state, "lines");
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < block->n_lines; i++)
	{
		const DsocrLine *line = &block->lines[i];
		char *text = pnstrdup(block->content + line->start, line->length);

		CHECK_FOR_INTERRUPTS();
		pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
		dsocr_json_text(state, "text", dsocr_encoding_to_server(text, NULL));
		dsocr_json_number(state, "confidence", line->confidence);
		pushJsonbValue(state, WJB_END_OBJECT, NULL);
	}
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
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
	if (block->confidence > 0)
		dsocr_json_number(state, "confidence", block->confidence);
	push_lines(state, block);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

double
dsocr_layout_confidence(const DsocrResult *r)
{
	return r->text_tokens > 0 ? exp(r->mean_logprob) : -1;
}

static void
push_elements(JsonbParseState **state, const DsocrResult *r, int *replaced)
{
	DsocrBlock prefix;

	dsocr_json_key(state, "elements");
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	if (prefix_block(r, &prefix))
		push_block(state, &prefix, replaced);
	for (int i = 0; i < r->n_blocks; i++)
	{
		CHECK_FOR_INTERRUPTS();
		push_block(state, &r->blocks[i], replaced);
	}
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

Jsonb *
dsocr_layout_page(const DsocrPage *page, int *replaced)
{
	const DsocrResult *r = &page->result;
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	dsocr_json_int(&state, "page", page->number);
	dsocr_json_text(&state, "status", (char *) dsocr_page_status(page));
	if (page->status.code != DSOCR_OK)
		dsocr_json_text(&state, "error",
						dsocr_encoding_to_server(pstrdup(page->status.message), NULL));
	else
	{
		dsocr_json_int(&state, "width", r->width);
		dsocr_json_int(&state, "height", r->height);
		dsocr_json_int(&state, "rotation", r->rotation);
		dsocr_json_number(&state, "skew", r->skew);
		if (dsocr_layout_confidence(r) >= 0)
			dsocr_json_number(&state, "confidence", dsocr_layout_confidence(r));
	}
	push_elements(&state, r, replaced);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

Datum
dsocr_layout_document(Jsonb *const *pages, int n)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	dsocr_json_key(&state, "pages");
	dsocr_json_array(&state, pages, n);
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
put_block(const DsocrPage *page, const DsocrBlock *block, int ord, ReturnSetInfo *rsinfo,
		  int *replaced)
{
	Datum values[7];
	bool nulls[7] = {false};

	values[0] = Int32GetDatum(page->number);
	values[1] = Int32GetDatum(ord);
	values[2] = CStringGetTextDatum(dsocr_encoding_to_server(block->label, replaced));
	values[4] = CStringGetTextDatum(dsocr_encoding_to_server(block->content, replaced));
	values[5] = CStringGetTextDatum(dsocr_page_status(page));
	values[6] = Float4GetDatum(block->confidence);
	nulls[6] = !(block->confidence > 0);
	for (int k = 0; k < Max(block->n_boxes, 1); k++)
	{
		CHECK_FOR_INTERRUPTS();
		nulls[3] = block->n_boxes == 0;
		values[3] = nulls[3] ? (Datum) 0 : box_datum(block->boxes[k]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

void
dsocr_layout_rows(const DsocrPage *page, ReturnSetInfo *rsinfo, int *replaced)
{
	const DsocrResult *r = &page->result;
	DsocrBlock prefix;
	int ord = 1;

	if (page->status.code != DSOCR_OK)
	{
		Datum values[7] = {Int32GetDatum(page->number)};
		bool nulls[7] = {false, true, true, true, true, false, true};

		values[5] = CStringGetTextDatum(dsocr_page_status(page));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		return;
	}
	if (prefix_block(r, &prefix))
		put_block(page, &prefix, ord++, rsinfo, replaced);
	for (int i = 0; i < r->n_blocks; i++)
		put_block(page, &r->blocks[i], ord++, rsinfo, replaced);
}

static void
put_box(const DsocrPage *page, const int32_t *box, ReturnSetInfo *rsinfo)
{
	Datum values[2] = {Int32GetDatum(page->number), box ? box_datum(box) : (Datum) 0};
	bool nulls[2] = {false, box == NULL};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

void
dsocr_layout_boxes(const DsocrPage *page, ReturnSetInfo *rsinfo)
{
	const DsocrResult *r = &page->result;

	if (page->status.code != DSOCR_OK)
		put_box(page, NULL, rsinfo);
	for (int i = 0; i < r->n_blocks; i++)
	{
		for (int k = 0; k < r->blocks[i].n_boxes; k++)
		{
			CHECK_FOR_INTERRUPTS();
			put_box(page, r->blocks[i].boxes[k], rsinfo);
		}
	}
}

/* ---- figures ---- */

char *
dsocr_layout_image_name(int page, int n, bool several)
{
	return several ? psprintf("images/%d_%d.jpg", page, n) : psprintf("images/%d.jpg", n);
}

/*
 * The engine knows of one page and links as the official code does, with
 * numbers that count up.  Only the links so expected are changed: whatever
 * else looks like one is text of the page.
 */
char *
dsocr_layout_link_images(char *markdown, int page, bool several)
{
	StringInfoData out;
	char *from = markdown;
	int n = 0;

	if (!several || strstr(markdown, "(images/") == NULL)
		return markdown;
	initStringInfo(&out);
	for (;;)
	{
		char *link = psprintf("![](%s)", dsocr_layout_image_name(page, n, false));
		char *at = strstr(from, link);

		if (at == NULL)
			break;
		appendBinaryStringInfo(&out, from, at - from);
		appendStringInfo(&out, "![](%s)", dsocr_layout_image_name(page, n++, true));
		from = at + strlen(link);
	}
	appendStringInfoString(&out, from);
	return out.data;
}
