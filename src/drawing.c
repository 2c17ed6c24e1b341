/*-------------------------------------------------------------------------
 *
 * drawing.c
 *		What is drawn on a page: boxes of elements, and geometry.
 *
 * Geometry is what the model makes of a drawing of lines and circles, with
 * coordinates of its own.  As text of an element it is drawn into the
 * element's box: as large as fits, in its own proportions, upwards being
 * upwards.
 *
 *-------------------------------------------------------------------------
 */
#include "drawing.h"

#include <math.h>

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "encoding.h"
#include "engine/geometry.h"
#include "layout.h"
#include "result.h"

PG_FUNCTION_INFO_V1(dsocr_geometry);

/* Part of a box that stays empty around geometry. */
#define PADDING 0.05

/* Larger numbers are no drawing. */
#define MAX_COORDINATE 1e9

typedef struct Frame
{
	double x1;
	double y1;
	double x2;
	double y2;
} Frame;

/* ---- geometry ---- */

static void
free_geometry(void *arg)
{
	dsocr_geometry_free((DsocrGeometry *) arg);
}

/* Geometry that is freed with the current context; NULL if the text is none. */
static DsocrGeometry *
parse_geometry(const char *utf8)
{
	DsocrGeometry *g = palloc0(sizeof(DsocrGeometry));
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));
	DsocrError err = {0};

	if (!dsocr_geometry_parse(utf8, strlen(utf8), g, &err))
	{
		if (err.code == DSOCR_E_MEMORY)
			dsocr_error_report(ERROR, &err);
		return NULL;
	}
	callback->func = free_geometry;
	callback->arg = g;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return g;
}

static void
include(Frame *f, double x, double y, double radius)
{
	f->x1 = Min(f->x1, x - radius);
	f->y1 = Min(f->y1, y - radius);
	f->x2 = Max(f->x2, x + radius);
	f->y2 = Max(f->y2, y + radius);
}

/* The frame around all of it; false when there is nothing that could be drawn. */
static bool
frame_of(const DsocrGeometry *g, Frame *f)
{
	*f = (Frame){INFINITY, INFINITY, -INFINITY, -INFINITY};
	for (int i = 0; i < g->n_lines; i++)
	{
		include(f, g->lines[i].from[0], g->lines[i].from[1], 0);
		include(f, g->lines[i].to[0], g->lines[i].to[1], 0);
	}
	for (int i = 0; i < g->n_points; i++)
		include(f, g->points[i].at[0], g->points[i].at[1], 0);
	for (int i = 0; i < g->n_circles; i++)
		include(f, g->circles[i].centre[0], g->circles[i].centre[1], fabs(g->circles[i].radius));
	return f->x1 >= -MAX_COORDINATE && f->y1 >= -MAX_COORDINATE && f->x2 <= MAX_COORDINATE &&
		   f->y2 <= MAX_COORDINATE && (f->x2 > f->x1 || f->y2 > f->y1);
}

/* A text as part of a label: no control characters, no '|'. */
static void
put_label(StringInfo out, const char *text)
{
	for (; *text != '\0'; text++)
		appendStringInfoChar(
			out, (unsigned char) *text < ' ' || *text == '|' || *text == 0x7f ? ' ' : *text);
}

static void
put_geometry(StringInfo out, const DsocrGeometry *g, const double box[4])
{
	double w = (box[2] - box[0]) * (1 - 2 * PADDING);
	double h = (box[3] - box[1]) * (1 - 2 * PADDING);
	double scale;
	double x;
	double y;
	Frame f;

	if (!frame_of(g, &f))
		return;
	scale =
		Min(f.x2 > f.x1 ? w / (f.x2 - f.x1) : INFINITY, f.y2 > f.y1 ? h / (f.y2 - f.y1) : INFINITY);
	x = (box[0] + box[2]) / 2 - scale * (f.x1 + f.x2) / 2;
	y = (box[1] + box[3]) / 2 + scale * (f.y1 + f.y2) / 2;
	for (int i = 0; i < g->n_lines; i++)
	{
		const DsocrGeometryLine *l = &g->lines[i];

		appendStringInfo(out, "line %.1f %.1f %.1f %.1f %s|\n", x + scale * l->from[0],
						 y - scale * l->from[1], x + scale * l->to[0], y - scale * l->to[1],
						 l->dashed ? "dashed" : "line");
	}
	for (int i = 0; i < g->n_circles; i++)
	{
		const DsocrGeometryCircle *c = &g->circles[i];

		appendStringInfo(out, "circle %.1f %.1f %.1f circle|", x + scale * c->centre[0],
						 y - scale * c->centre[1], scale * fabs(c->radius));
		put_label(out, c->label);
		appendStringInfoChar(out, '\n');
	}
	for (int i = 0; i < g->n_points; i++)
	{
		appendStringInfo(out, "text %.1f %.1f point|", x + scale * g->points[i].at[0],
						 y - scale * g->points[i].at[1]);
		put_label(out, g->points[i].label);
		appendStringInfoChar(out, '\n');
	}
}

/* ---- boxes ---- */

static bool
may_be_geometry(const char *content)
{
	while (*content == ' ' || *content == '\n')
		content++;
	return *content == '{';
}

char *
dsocr_drawing_list(const DsocrLayoutPage *page, int w, int h)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; page != NULL && i < page->n_blocks; i++)
	{
		const DsocrBlock *block = &page->blocks[i];
		DsocrGeometry *g = may_be_geometry(block->content) ? parse_geometry(block->content) : NULL;

		CHECK_FOR_INTERRUPTS();
		for (int k = 0; k < block->n_boxes; k++)
		{
			double x = (double) w / page->width;
			double y = (double) h / page->height;
			int32_t b[4];

			dsocr_layout_clip(page, block->boxes[k], b);
			/* what is before the '|' chooses the colour, what is behind it is shown */
			appendStringInfo(&list, "box %.1f %.1f %.1f %.1f ", b[0] * x, b[1] * y, b[2] * x,
							 b[3] * y);
			put_label(&list, block->label);
			appendStringInfo(&list, "|%d ", i + 1);
			put_label(&list, block->label);
			appendStringInfoChar(&list, '\n');
			if (g != NULL && k == 0)
				put_geometry(&list, g, (double[]){b[0] * x, b[1] * y, b[2] * x, b[3] * y});
		}
		if (g != NULL && block->n_boxes == 0)
			put_geometry(&list, g, (double[]){0, 0, w, h});
	}
	return list.data;
}

/* ---- dsocr_geometry ---- */

static void
push_number(JsonbParseState **state, JsonbIteratorToken token, double number)
{
	JsonbValue v = {.type = jbvNull};

	if (isfinite(number))
	{
		v.type = jbvNumeric;
		v.val.numeric =
			DatumGetNumeric(DirectFunctionCall1(float8_numeric, Float8GetDatum(number)));
	}
	pushJsonbValue(state, token, &v);
}

static void
push_point(JsonbParseState **state, const char *key, const double at[2])
{
	dsocr_json_key(state, key);
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	push_number(state, WJB_ELEM, at[0]);
	push_number(state, WJB_ELEM, at[1]);
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

static void
push_label(JsonbParseState **state, const char *label, int *replaced)
{
	if (label[0] != '\0')
		dsocr_json_text(state, "label", dsocr_encoding_to_server(pstrdup(label), replaced));
}

static void
begin_list(JsonbParseState **state, const char *key)
{
	dsocr_json_key(state, key);
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
}

static Datum
geometry_jsonb(const DsocrGeometry *g, int *replaced)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	begin_list(&state, "lines");
	for (int i = 0; i < g->n_lines; i++)
	{
		JsonbValue dashed = {.type = jbvBool, .val.boolean = g->lines[i].dashed};

		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		push_point(&state, "from", g->lines[i].from);
		push_point(&state, "to", g->lines[i].to);
		dsocr_json_key(&state, "dashed");
		pushJsonbValue(&state, WJB_VALUE, &dashed);
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	begin_list(&state, "points");
	for (int i = 0; i < g->n_points; i++)
	{
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		push_label(&state, g->points[i].label, replaced);
		push_point(&state, "at", g->points[i].at);
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	begin_list(&state, "circles");
	for (int i = 0; i < g->n_circles; i++)
	{
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		push_label(&state, g->circles[i].label, replaced);
		push_point(&state, "centre", g->circles[i].centre);
		dsocr_json_key(&state, "radius");
		push_number(&state, WJB_VALUE, g->circles[i].radius);
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

Datum
dsocr_geometry(PG_FUNCTION_ARGS)
{
	DsocrGeometry *g;
	int replaced = 0;
	Datum value;

	g = parse_geometry(dsocr_encoding_to_utf8(text_to_cstring(PG_GETARG_TEXT_PP(0))));
	if (g == NULL)
		PG_RETURN_NULL();
	value = geometry_jsonb(g, &replaced);
	dsocr_encoding_notice(replaced);
	return value;
}
