/*-------------------------------------------------------------------------
 *
 * layout.h
 *		The layout of pages as jsonb and as rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_LAYOUT_H
#define DSOCR_LAYOUT_H

#include "dsocr.h"

#include "fmgr.h"
#include "nodes/execnodes.h"
#include "utils/jsonb.h"
#include "reading.h"

/* Pushing members of a jsonb object; text must be in the server encoding. */
extern void dsocr_json_key(JsonbParseState **state, const char *key);
extern void dsocr_json_int(JsonbParseState **state, const char *key, int64 value);
extern void dsocr_json_ms(JsonbParseState **state, const char *key, int64 microseconds);
extern void dsocr_json_number(JsonbParseState **state, const char *key, double value);
extern void dsocr_json_text(JsonbParseState **state, const char *key, char *value);

/* An array of finished objects; returned as pushJsonbValue does. */
extern JsonbValue *dsocr_json_array(JsonbParseState **state, Jsonb *const *elements, int n);

/*
 * {"page":1,"status":"ok","width":w,"height":h,"rotation":0,"skew":0,
 * "confidence":c,"elements":[{"type":t,"boxes":[[x1,y1,x2,y2]],"text":s,
 * "confidence":c}]}, or {"page":1,"status":...,"error":...,"elements":[]}.
 * Characters that the server encoding cannot hold are counted in *replaced,
 * which may be NULL.
 */
extern Jsonb *dsocr_layout_page(const DsocrPage *page, int *replaced);

/* {"pages":[...]} of what dsocr_layout_page made. */
extern Datum dsocr_layout_document(Jsonb *const *pages, int n);

/*
 * Rows (page, ord, type, box, content, status, confidence): one for each
 * element and box, one with page and status alone for a page that could not
 * be read.
 */
extern void dsocr_layout_rows(const DsocrPage *page, ReturnSetInfo *rsinfo, int *replaced);

/* Rows (page, box) of all boxes; box is NULL for a page that could not be read. */
extern void dsocr_layout_boxes(const DsocrPage *page, ReturnSetInfo *rsinfo);

/*
 * The name of a figure, by which markdown links to it: "images/N.jpg" as the
 * official code names it, "images/PAGE_N.jpg" in a document of several pages.
 * n counts the elements of type image of the page from 0, in reading order.
 * palloc'd.
 */
extern char *dsocr_layout_image_name(int page, int n, bool several);

/* The markdown of a page with its links so named; may be the argument. */
extern char *dsocr_layout_link_images(char *markdown, int page, bool several);

/* How certain the model was of a page, 0 to 1; negative when it wrote nothing. */
extern double dsocr_layout_confidence(const DsocrResult *r);

#endif /* DSOCR_LAYOUT_H */
