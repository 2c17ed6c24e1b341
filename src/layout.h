/*-------------------------------------------------------------------------
 *
 * layout.h
 *		The layout of a page as jsonb and as rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_LAYOUT_H
#define DSOCR_LAYOUT_H

#include "dsocr.h"

#include "fmgr.h"
#include "nodes/execnodes.h"
#include "utils/jsonb.h"
#include "engine/request.h"

/* Pushing members of a jsonb object; text must be in the server encoding. */
extern void dsocr_json_key(JsonbParseState **state, const char *key);
extern void dsocr_json_int(JsonbParseState **state, const char *key, int64 value);
extern void dsocr_json_ms(JsonbParseState **state, const char *key, int64 microseconds);
extern void dsocr_json_text(JsonbParseState **state, const char *key, char *value);

/*
 * {"pages":[{"page":1,"width":w,"height":h,"elements":[{"type":t,
 * "boxes":[[x1,y1,x2,y2]],"text":s}]}]}.  Characters that the server encoding
 * cannot hold are counted in *replaced, which may be NULL.
 */
extern Datum dsocr_layout_jsonb(const DsocrResult *result, int *replaced);

/* Rows (page, ord, type, box, content): one for each element and box. */
extern void dsocr_layout_rows(const DsocrResult *result, ReturnSetInfo *rsinfo, int *replaced);

/* Rows (page, box) of all boxes. */
extern void dsocr_layout_boxes(const DsocrResult *result, ReturnSetInfo *rsinfo);

#endif /* DSOCR_LAYOUT_H */
