/*-------------------------------------------------------------------------
 *
 * words.c
 *		Words and elements of a layout as rows: what archives are searched by.
 *
 * Words lie where text_runs.c guesses their lines to be, each as long as its
 * letters are of the line.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "words.h"

#include <math.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/geo_decls.h"
#include "encoding.h"
#include "layout_pages.h"
#include "text_width.h"

PG_FUNCTION_INFO_V1(dsocr_words);
PG_FUNCTION_INFO_V1(dsocr_elements);

/* ---- along a line ---- */

void
dsocr_word_begin(const DsocrTextRun *run, DsocrWord *word)
{
	*word = (DsocrWord){.text = run->text, .rect = run->rect, .next = run->rect.x1};
}

bool
dsocr_word_next(const DsocrTextRun *run, DsocrWord *word)
{
	double scale = run->width > 0 ? (run->rect.x2 - run->rect.x1) / run->width : 0;
	const char *p = word->text + word->length;

	word->text = p;
	if (*p == '\0')
		return false;
	word->blank = *p == ' ';
	word->rect.x1 = word->next;
	for (; *p != '\0' && (*p == ' ') == word->blank; p += pg_utf_mblen((const unsigned char *) p))
	{
		pg_wchar c = utf8_to_unicode((const unsigned char *) p);

		word->next += scale * dsocr_text_widths[dsocr_text_width_class(c)] / 1000;
	}
	word->rect.x2 = Min(Max(word->next, word->rect.x1), run->rect.x2);
	word->length = p - word->text;
	return true;
}

void
dsocr_word_pixels(const DsocrLayoutPage *page, DsocrRect upright, int pixels[4])
{
	DsocrRect r = dsocr_text_stored(page, upright);

	pixels[0] = (int) floor(r.x1 + 1e-6);
	pixels[1] = (int) floor(r.y1 + 1e-6);
	pixels[2] = (int) ceil(r.x2 - 1e-6);
	pixels[3] = (int) ceil(r.y2 - 1e-6);
}

/* ---- rows ---- */

static Datum
box_of(double x1, double y1, double x2, double y2)
{
	BOX *box = palloc(sizeof(BOX));

	box->low.x = x1;
	box->low.y = y1;
	box->high.x = x2;
	box->high.y = y2;
	return BoxPGetDatum(box);
}

static Datum
server_text(const char *utf8, int length)
{
	return CStringGetTextDatum(dsocr_encoding_to_server(pnstrdup(utf8, length), NULL));
}

/* Rows (page, ord, line, word, box, width, height). */
static void
put_words(const DsocrLayoutPage *page, int ord, const DsocrTextRuns *runs, ReturnSetInfo *rsinfo)
{
	for (int i = 0; i < runs->n; i++)
	{
		DsocrWord word;

		CHECK_FOR_INTERRUPTS();
		dsocr_word_begin(&runs->runs[i], &word);
		while (dsocr_word_next(&runs->runs[i], &word))
		{
			Datum values[7];
			bool nulls[7] = {false};
			int b[4];

			if (word.blank)
				continue;
			dsocr_word_pixels(page, word.rect, b);
			values[0] = Int32GetDatum(page->number);
			values[1] = Int32GetDatum(ord);
			values[2] = Int32GetDatum(i + 1);
			values[3] = server_text(word.text, word.length);
			values[4] = box_of(b[0], b[1], b[2], b[3]);
			values[5] = Int32GetDatum(page->width);
			values[6] = Int32GetDatum(page->height);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
}

Datum
dsocr_words(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext work;
	DsocrLayoutPages *pages;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	pages = dsocr_layout_pages_parse(PG_GETARG_JSONB_P(0));
	work = AllocSetContextCreate(CurrentMemoryContext, "dsocr words", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < pages->n; i++)
	{
		MemoryContext caller = MemoryContextSwitchTo(work);
		DsocrTextRuns *runs = dsocr_text_runs(&pages->pages[i]);

		for (int k = 0; k < pages->pages[i].n_blocks; k++)
			put_words(&pages->pages[i], k + 1, &runs[k], rsinfo);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(work);
	}
	MemoryContextDelete(work);
	return (Datum) 0;
}

/* Rows (page, ord, type, box, place, content, confidence, width, height). */
static void
put_element(const DsocrLayoutPage *page, int ord, ReturnSetInfo *rsinfo)
{
	const DsocrBlock *block = &page->blocks[ord - 1];
	Datum values[9];
	bool nulls[9] = {false};

	values[0] = Int32GetDatum(page->number);
	values[1] = Int32GetDatum(ord);
	values[2] = server_text(block->label, strlen(block->label));
	values[5] = server_text(block->content, strlen(block->content));
	values[6] = Float4GetDatum(block->confidence);
	nulls[6] = !(block->confidence > 0);
	values[7] = Int32GetDatum(page->width);
	values[8] = Int32GetDatum(page->height);
	for (int k = 0; k < Max(block->n_boxes, 1); k++)
	{
		CHECK_FOR_INTERRUPTS();
		nulls[3] = nulls[4] = block->n_boxes == 0;
		values[3] = values[4] = (Datum) 0;
		if (block->n_boxes > 0)
		{
			double w = page->width;
			double h = page->height;
			int32_t b[4];

			dsocr_layout_clip(page, block->boxes[k], b);
			values[3] = box_of(b[0], b[1], b[2], b[3]);
			values[4] = box_of(b[0] / w, b[1] / h, b[2] / w, b[3] / h);
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

Datum
dsocr_elements(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	DsocrLayoutPages *pages;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	pages = dsocr_layout_pages_parse(PG_GETARG_JSONB_P(0));
	for (int i = 0; i < pages->n; i++)
	{
		const DsocrLayoutPage *page = &pages->pages[i];

		if (!PG_ARGISNULL(1) && page->number != PG_GETARG_INT32(1))
			continue;
		for (int k = 0; k < page->n_blocks; k++)
			put_element(page, k + 1, rsinfo);
	}
	return (Datum) 0;
}
