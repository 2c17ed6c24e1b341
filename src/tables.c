/*-------------------------------------------------------------------------
 *
 * tables.c
 *		The tables of a layout as rows of SQL.
 *
 * A table comes in two forms.  cells is what the model wrote: one object for
 * each cell with its place and spans, nothing twice.  grid is for queries: an
 * array of rows, each an array of as many texts as the table has columns,
 * where a cell that spans several slots stands in each of them.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/geo_decls.h"
#include "documents.h"
#include "encoding.h"
#include "html_table.h"
#include "layout.h"

PG_FUNCTION_INFO_V1(dsocr_tables_document);
PG_FUNCTION_INFO_V1(dsocr_tables_layout);
PG_FUNCTION_INFO_V1(dsocr_table_cells);

static void
push_text(JsonbParseState **state, char *text)
{
	JsonbValue v = {.type = jbvNull};

	if (text != NULL)
		v = (JsonbValue){.type = jbvString, .val.string = {.val = text, .len = strlen(text)}};
	pushJsonbValue(state, WJB_ELEM, &v);
}

static void
push_cell(JsonbParseState **state, const DsocrTableCell *cell)
{
	JsonbValue header = {.type = jbvBool, .val.boolean = cell->header};

	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	dsocr_json_int(state, "row", cell->row + 1);
	dsocr_json_int(state, "col", cell->col + 1);
	dsocr_json_int(state, "rowspan", cell->rowspan);
	dsocr_json_int(state, "colspan", cell->colspan);
	dsocr_json_key(state, "header");
	pushJsonbValue(state, WJB_VALUE, &header);
	dsocr_json_text(state, "text", cell->text);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static Datum
cells_jsonb(const DsocrTable *table)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < table->n_cells; i++)
	{
		CHECK_FOR_INTERRUPTS();
		push_cell(&state, &table->cells[i]);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

/* A table too large for a full grid: rows end with their last cell. */
static void
push_ragged(JsonbParseState **state, const DsocrTable *table)
{
	int i = 0;

	for (int row = 0; row < table->n_rows; row++)
	{
		CHECK_FOR_INTERRUPTS();
		pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
		for (; i < table->n_cells && table->cells[i].row == row; i++)
			push_text(state, table->cells[i].text);
		pushJsonbValue(state, WJB_END_ARRAY, NULL);
	}
}

static void
push_full(JsonbParseState **state, const DsocrTable *table)
{
	int32 *slots = dsocr_table_slots(table);

	for (int row = 0; row < table->n_rows; row++)
	{
		CHECK_FOR_INTERRUPTS();
		pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
		for (int col = 0; col < table->n_cols; col++)
		{
			int32 cell = slots[(size_t) row * table->n_cols + col];

			push_text(state, cell < 0 ? NULL : table->cells[cell].text);
		}
		pushJsonbValue(state, WJB_END_ARRAY, NULL);
	}
	pfree(slots);
}

static Datum
grid_jsonb(const DsocrTable *table)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	if (dsocr_table_is_grid(table))
		push_full(&state, table);
	else
		push_ragged(&state, table);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
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

static Datum
status_datum(const DsocrLayoutPage *page)
{
	return CStringGetTextDatum(dsocr_encoding_to_server(pstrdup(page->status), NULL));
}

static void
put_table(const DsocrLayoutPage *page, int n, DsocrTable *table, ReturnSetInfo *rsinfo,
		  int *replaced)
{
	const DsocrBlock *block = &page->blocks[n];
	char *html = dsocr_encoding_to_server(pnstrdup(table->html, table->html_len), replaced);
	Datum values[8];
	bool nulls[8] = {false};

	/* its characters were counted with the HTML */
	for (int i = 0; i < table->n_cells; i++)
		table->cells[i].text = dsocr_encoding_to_server(table->cells[i].text, NULL);
	values[0] = Int32GetDatum(page->number);
	values[1] = Int32GetDatum(n + 1);
	values[2] = CStringGetTextDatum(html);
	values[3] = cells_jsonb(table);
	values[4] = grid_jsonb(table);
	values[5] = BoolGetDatum(table->complete);
	nulls[6] = block->n_boxes == 0;
	values[6] = nulls[6] ? (Datum) 0 : box_datum(block->boxes[0]);
	values[7] = status_datum(page);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* The rows of a page; one with its status alone where it could not be read. */
static void
put_tables(const DsocrLayoutPage *page, ReturnSetInfo *rsinfo, int *replaced)
{
	MemoryContext work =
		AllocSetContextCreate(CurrentMemoryContext, "dsocr table", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(work);

	if (page->error != NULL)
	{
		Datum values[8] = {Int32GetDatum(page->number)};
		bool nulls[8] = {false, true, true, true, true, true, true, false};

		values[7] = status_datum(page);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	for (int i = 0; i < page->n_blocks; i++)
	{
		const char *p = page->blocks[i].content;
		const char *end = p + strlen(p);
		DsocrTable table;

		while (dsocr_table_next(&p, end, &table))
		{
			put_table(page, i, &table, rsinfo, replaced);
			MemoryContextReset(work);
		}
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(work);
}

static void
put_pages(const DsocrLayoutPages *pages, FunctionCallInfo fcinfo)
{
	int replaced = 0;

	for (int i = 0; pages != NULL && i < pages->n; i++)
		put_tables(&pages->pages[i], (ReturnSetInfo *) fcinfo->resultinfo, &replaced);
	dsocr_encoding_notice(replaced);
}

Datum
dsocr_tables_document(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	put_pages(dsocr_layout_read(fcinfo, 1), fcinfo);
	return (Datum) 0;
}

Datum
dsocr_tables_layout(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	if (!PG_ARGISNULL(0))
		put_pages(dsocr_layout_pages_parse(PG_GETARG_JSONB_P(0)), fcinfo);
	return (Datum) 0;
}

/* Tables of a text, as dsocr_figure writes one for a chart. */
Datum
dsocr_table_cells(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	DsocrTable table;
	const char *p;
	const char *end;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	p = dsocr_encoding_to_utf8(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	end = p + strlen(p);
	for (int ord = 1; dsocr_table_next(&p, end, &table); ord++)
	{
		Datum values[4];
		bool nulls[4] = {false};

		for (int i = 0; i < table.n_cells; i++)
			table.cells[i].text = dsocr_encoding_to_server(table.cells[i].text, NULL);
		values[0] = Int32GetDatum(ord);
		values[1] = cells_jsonb(&table);
		values[2] = grid_jsonb(&table);
		values[3] = BoolGetDatum(table.complete);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
