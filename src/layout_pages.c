/*-------------------------------------------------------------------------
 *
 * layout_pages.c
 *		A layout as the document functions work with it.
 *
 * Layouts of the user are checked as strictly as data from outside deserve:
 * what is made of them must not depend on luck with a missing key.  Members
 * that are not known are left alone, so that users can add their own.
 *
 *-------------------------------------------------------------------------
 */
#include "layout_pages.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "encoding.h"

/* Coordinates of models lie outside of the page at times, but not that far. */
#define MAX_COORDINATE 100000000

/* Bytes between two lines of an element: tags and blanks. */
#define MAX_BETWEEN_LINES 256

static void
fail(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("layout is not valid: %s", what),
			 errhint("A layout is what dsocr_layout returns: {\"pages\": [{\"page\": 1, \"width\": "
					 "640, \"height\": 480, \"elements\": [{\"type\": \"text\", \"boxes\": [[x1, "
					 "y1, x2, y2]], \"text\": \"...\"}]}]}.")));
}

/* A member of an object; false if it is not there or null. */
static bool
member(JsonbContainer *object, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(object, key, strlen(key), value) != NULL &&
		   value->type != jbvNull;
}

/* A member that is an object or an array; NULL if it is not there. */
static JsonbContainer *
container_member(JsonbContainer *object, const char *key, bool array)
{
	JsonbValue v;

	if (!member(object, key, &v))
		return NULL;
	if (v.type != jbvBinary || JsonContainerIsArray(v.val.binary.data) != array ||
		JsonContainerIsScalar(v.val.binary.data))
		fail(psprintf("\"%s\" is no %s", key, array ? "array" : "object"));
	return v.val.binary.data;
}

static JsonbContainer *
object_element(JsonbContainer *array, int i, const char *what)
{
	JsonbValue *v = getIthJsonbValueFromContainer(array, i);
	JsonbContainer *object;

	if (v == NULL || v->type != jbvBinary || !JsonContainerIsObject(v->val.binary.data))
		fail(psprintf("%s %d is no object", what, i + 1));
	object = v->val.binary.data;
	pfree(v);
	return object;
}

static double
number_value(const JsonbValue *v, const char *what, double low, double high)
{
	double number;

	if (v->type != jbvNumeric)
		fail(psprintf("%s is no number", what));
	number = DatumGetFloat8(
		DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v->val.numeric)));
	if (!(number >= low && number <= high))
		fail(psprintf("%s is not between %.0f and %.0f", what, low, high));
	return number;
}

static double
number_member(JsonbContainer *object, const char *key, double low, double high, double fallback)
{
	JsonbValue v;

	if (!member(object, key, &v))
		return fallback;
	return number_value(&v, psprintf("\"%s\"", key), low, high);
}

static int
integer_member(JsonbContainer *object, const char *key, int low, int high, int fallback)
{
	double number = number_member(object, key, low, high, fallback);

	if (number != floor(number))
		fail(psprintf("\"%s\" is no integer", key));
	return (int) number;
}

/* A text in UTF-8, or NULL. */
static char *
text_member(JsonbContainer *object, const char *key)
{
	JsonbValue v;

	if (!member(object, key, &v))
		return NULL;
	if (v.type != jbvString)
		fail(psprintf("\"%s\" is no text", key));
	return dsocr_encoding_to_utf8(pnstrdup(v.val.string.val, v.val.string.len));
}

static void
parse_box(JsonbValue *value, int32_t box[4])
{
	JsonbContainer *array = value->type == jbvBinary ? value->val.binary.data : NULL;

	if (array == NULL || !JsonContainerIsArray(array) || JsonContainerSize(array) != 4)
		fail("a box is no array of four numbers");
	for (int k = 0; k < 4; k++)
	{
		JsonbValue *v = getIthJsonbValueFromContainer(array, k);

		box[k] =
			(int32_t) number_value(v, "a coordinate of a box", -MAX_COORDINATE, MAX_COORDINATE);
		pfree(v);
	}
}

static void
parse_boxes(JsonbContainer *object, DsocrBlock *block)
{
	JsonbContainer *boxes = container_member(object, "boxes", true);

	if (boxes == NULL)
		return;
	block->n_boxes = JsonContainerSize(boxes);
	block->boxes = palloc(sizeof(block->boxes[0]) * Max(block->n_boxes, 1));
	for (int i = 0; i < block->n_boxes; i++)
	{
		JsonbValue *v = getIthJsonbValueFromContainer(boxes, i);

		CHECK_FOR_INTERRUPTS();
		parse_box(v, block->boxes[i]);
		pfree(v);
	}
}

/*
 * Lines of an element and where they stand in its text.  They stand there one
 * behind the other, with little between them; what is not found is left out.
 */
static void
parse_lines(JsonbContainer *object, DsocrBlock *block)
{
	JsonbContainer *lines = container_member(object, "lines", true);
	size_t left = strlen(block->content);
	const char *at = block->content;
	int n = lines == NULL ? 0 : JsonContainerSize(lines);

	block->lines = palloc(sizeof(DsocrLine) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		JsonbContainer *line = object_element(lines, i, "line");
		float confidence = (float) number_member(line, "confidence", 0, 1, 0);
		char *text = text_member(line, "text");
		size_t len = text == NULL ? 0 : strlen(text);
		const char *found =
			len == 0 ? NULL : memmem(at, Min(left, len + MAX_BETWEEN_LINES), text, len);

		CHECK_FOR_INTERRUPTS();
		if (found == NULL)
			continue;
		block->lines[block->n_lines++] =
			(DsocrLine){(int32_t) (found - block->content), (int32_t) len, confidence};
		left -= found + len - at;
		at = found + len;
	}
}

static void
parse_block(JsonbContainer *object, DsocrBlock *block)
{
	block->label = text_member(object, "type");
	if (block->label == NULL)
		fail("an element has no \"type\"");
	block->content = text_member(object, "text");
	if (block->content == NULL)
		block->content = "";
	block->confidence = (float) number_member(object, "confidence", 0, 1, 0);
	parse_boxes(object, block);
	parse_lines(object, block);
}

static void
parse_page(JsonbContainer *object, DsocrLayoutPage *page, int32 after)
{
	JsonbContainer *elements = container_member(object, "elements", true);

	page->number = integer_member(object, "page", 1, PG_INT32_MAX, 0);
	if (page->number == 0)
		fail("a page has no number \"page\"");
	if (page->number <= after)
		fail(psprintf("page %d comes after page %d", page->number, after));
	page->width = integer_member(object, "width", 0, DSOCR_LAYOUT_MAX_SIDE, 0);
	page->height = integer_member(object, "height", 0, DSOCR_LAYOUT_MAX_SIDE, 0);
	page->rotation = integer_member(object, "rotation", 0, 270, 0);
	if (page->rotation % 90 != 0)
		fail("\"rotation\" is not 0, 90, 180 or 270");
	page->skew = (float) number_member(object, "skew", -45, 45, 0);
	page->confidence = (float) number_member(object, "confidence", 0, 1, 0);
	page->status = text_member(object, "status");
	if (page->status == NULL)
		page->status = "ok";
	page->error = text_member(object, "error");
	page->n_blocks = elements == NULL ? 0 : JsonContainerSize(elements);
	if (page->n_blocks > 0 && (page->width == 0 || page->height == 0))
		fail(psprintf("page %d has elements but no \"width\" and \"height\"", page->number));
	page->blocks = palloc0(sizeof(DsocrBlock) * Max(page->n_blocks, 1));
	for (int i = 0; i < page->n_blocks; i++)
	{
		CHECK_FOR_INTERRUPTS();
		parse_block(object_element(elements, i, "element"), &page->blocks[i]);
	}
}

DsocrLayoutPages *
dsocr_layout_pages_parse(Jsonb *layout)
{
	DsocrLayoutPages *result = palloc0(sizeof(DsocrLayoutPages));
	JsonbContainer *pages;
	JsonbValue number;

	if (!JB_ROOT_IS_OBJECT(layout))
		fail("it is no object");
	pages = container_member(&layout->root, "pages", true);
	/* tables of pages keep each for itself */
	if (pages == NULL && member(&layout->root, "page", &number))
	{
		result->n = 1;
		result->pages = palloc0(sizeof(DsocrLayoutPage));
		parse_page(&layout->root, &result->pages[0], 0);
		return result;
	}
	if (pages == NULL)
		fail("it has no \"pages\"");
	result->n = JsonContainerSize(pages);
	if (result->n > DSOCR_LAYOUT_MAX_PAGES)
		fail(psprintf("it has more than %d pages", DSOCR_LAYOUT_MAX_PAGES));
	result->pages = palloc0(sizeof(DsocrLayoutPage) * Max(result->n, 1));
	for (int i = 0; i < result->n; i++)
		parse_page(object_element(pages, i, "page"), &result->pages[i],
				   i == 0 ? 0 : result->pages[i - 1].number);
	return result;
}

const DsocrLayoutPage *
dsocr_layout_pages_find(const DsocrLayoutPages *pages, int32 number)
{
	int low = 0;
	int high = pages->n;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (pages->pages[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < pages->n && pages->pages[low].number == number ? &pages->pages[low] : NULL;
}

void
dsocr_layout_clip(const DsocrLayoutPage *page, const int32_t box[4], int32_t clipped[4])
{
	const int32 limits[2] = {page->width, page->height};

	for (int k = 0; k < 2; k++)
	{
		int32_t low = Min(box[k], box[k + 2]);
		int32_t high = Max(box[k], box[k + 2]);

		low = Max(Min(low, limits[k] - 1), 0);
		clipped[k] = low;
		clipped[k + 2] = Max(Min(high, limits[k]), low + 1);
	}
}

bool
dsocr_layout_is_image(const DsocrBlock *block)
{
	return strcmp(block->label, "image") == 0;
}
