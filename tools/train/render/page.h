/*-------------------------------------------------------------------------
 *
 * page.h
 *		A page while it is drawn: pixels, and the text that a reader writes.
 *
 * The target is a list of units: characters and the tags of the model's
 * output, each with the box where it stands on the page.  Boxes are in
 * pixels of the drawing until page_finish moves them to the view that the
 * model sees.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RENDER_PAGE_H
#define RENDER_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fonts.h"
#include "rng.h"

/* Codes above Unicode: tags, in the order of labels.py. */
typedef enum UnitTag
{
	UNIT_TABLE = 0x110000,
	UNIT_TABLE_END,
	UNIT_TR,
	UNIT_TR_END,
	UNIT_TD,
	UNIT_TD_END,
	UNIT_REF,
	UNIT_REF_END,
	UNIT_DET,
	UNIT_DET_END,
	UNIT_GROUNDING,
	UNIT_BOX, /* "[[x1, y1, x2, y2]]" of its box, spelt out by page_finish */
} UnitTag;

typedef struct Box
{
	float x0, y0, x1, y1;
} Box;

typedef struct Unit
{
	uint32_t code;
	Box box;
	/* box is where it stands; false for tags and line ends.  A box without area
	 * says where to look for what is not written there. */
	bool placed;
} Unit;

/* What the request line asks for. */
typedef struct Request
{
	char kind[16];
	uint64_t seed;
	int w, h;				/* view in pixels */
	int global;				/* side of the padded overview, 0 = none */
	float size_lo, size_hi; /* height of the letters in pixels of the view */
	float lead_lo, lead_hi; /* line distance, in letter heights */
	int chars_lo, chars_hi; /* most characters on the page */
	float effects;			/* share of pages with scan effects */
	float skew;				/* most degrees */
	float rescale;			/* share of pages drawn at another size, then resized */
	float rich;				/* share of pages with headings, lists and the like */
	float brief;			/* share of paragraphs of a few words */
	float low;				/* share of pages that begin further down */
	float random;			/* share of blocks of random words and codes */
	bool held_fonts;
	bool held_text;
	bool grounded; /* boxes are asked for */
	bool describe; /* of a chart: sentences instead of its data */
} Request;

typedef struct Style
{
	const Family *family;
	RasterMode mode;
	int size;
	float lead;
	float gap;		/* width of blanks, in blanks of the font */
	float tracking; /* more room after each letter, in pixels */
	uint8_t ink;
} Style;

#define WORD_MAX 48
typedef struct Word
{
	int n;
	uint32_t c[WORD_MAX];
} Word;

typedef struct Texts Texts;

typedef struct Page
{
	int w, h;
	uint8_t *px; /* [h, w], 255 = paper, 0 = ink */
	Unit *units;
	int n_units;
	int cap_units;
	Rng *rng;
	const Request *request;
	Fonts *fonts;
	const Texts *texts;
	float to_view[6]; /* x' = a x + b y + c, y' = d x + e y + f */
} Page;

extern void page_begin(Page *p, int w, int h);
extern void page_emit(Page *p, uint32_t code);
extern void page_emit_at(Page *p, uint32_t code, Box box);
extern void page_emit_ascii(Page *p, const char *s);
/* Text that is not written on the page, but told by what is to be seen at x, y. */
extern void page_emit_seen(Page *p, const char *s, float x, float y);
extern void page_fill(Page *p, int x0, int y0, int x1, int y1, uint8_t value);
extern void page_line(Page *p, float x0, float y0, float x1, float y1, float width, uint8_t value);
extern float page_advance(Page *p, const Style *s, FaceStyle face, uint32_t c);
extern float page_word_width(Page *p, const Style *s, FaceStyle face, const Word *w);

/* Draws a word from x on the base line; emits it; returns where it ends. */
extern float page_word(Page *p, const Style *s, FaceStyle face, float x, float base, const Word *w);
/* Draws without emitting. */
extern float page_draw(Page *p, const Style *s, FaceStyle face, float x, float base, const Word *w);
extern bool page_can_draw(Page *p, const Style *s, const Word *w);

/* Where a reader looks who writes of a box's beginning or end: at the first or the last letter. */
extern Box box_first(Box b);
extern Box box_last(Box b);

/* A block of a grounded page: its tags first, its box when it has ended. */
extern int page_block_begin(Page *p, const char *label);
extern void page_block_end(Page *p, int block, Box box);

extern Style style_choose(Page *p, float scale);
extern Word word_of(const char *ascii);

#endif
