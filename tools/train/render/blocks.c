/*-------------------------------------------------------------------------
 *
 * blocks.c
 *		Blocks of running text: paragraphs, headings, lists, pairs.
 *
 *-------------------------------------------------------------------------
 */
#include "blocks.h"

#include <math.h>
#include <string.h>

#include "text.h"

#define MAX_WORDS 512

/* How the lines of one block are set. */
typedef struct Setting
{
	Style style;
	FaceStyle face;
	Align align;
	float x0, x1;
	float indent; /* of the first line */
	bool hyphens;
	float emphasis; /* share of words in another face */
} Setting;

static void
separate(Column *c)
{
	if (!c->first)
	{
		page_emit(c->page, '\n');
		page_emit(c->page, '\n');
	}
	c->first = false;
}

static bool
has_room(const Column *c, const Style *s)
{
	return c->left > 3 && c->y + (float) s->size * 1.1f <= c->y1;
}

static void
widen(Box *b, float x0, float y0, float x1, float y1)
{
	b->x0 = fminf(b->x0, x0);
	b->y0 = fminf(b->y0, y0);
	b->x1 = fmaxf(b->x1, x1);
	b->y1 = fmaxf(b->y1, y1);
}

static Box
nothing(void)
{
	return (Box){1e6f, 1e6f, -1e6f, -1e6f};
}

static FaceStyle
any_face(Rng *r)
{
	float u = rng_unit(r);

	return u < .76f ? FACE_REGULAR : u < .88f ? FACE_BOLD : FACE_ITALIC;
}

/* How many of words[n] fit on a line; their width without blanks goes to *width. */
static int
fit(Page *p, const Setting *t, const Word *words, int n, float room, float gap, float *width)
{
	int k = 0;

	*width = 0;
	for (; k < n; k++)
	{
		float w = page_word_width(p, &t->style, t->face, &words[k]);

		if (*width + w + gap * (float) k > room)
			break;
		*width += w;
	}
	return k;
}

/* Cuts a word that does not fit: the part that stays gets a hyphen. */
static bool
cut_word(Page *p, const Setting *t, Word *word, Word *head, float room)
{
	int n = 0;
	float hyphen = page_advance(p, &t->style, t->face, '-');
	float width = hyphen;

	while (n < word->n - 2 && n < WORD_MAX - 1)
	{
		width += page_advance(p, &t->style, t->face, word->c[n]);
		if (width > room)
			break;
		n++;
	}
	if (n < 2)
		return false;
	*head = *word;
	head->n = n;
	head->c[head->n++] = '-';
	word->n -= n;
	memmove(word->c, word->c + n, sizeof(word->c[0]) * (size_t) word->n);
	return true;
}

static void
draw_line(Column *c, const Setting *t, const Word *words, int n, float x, float base, float gap)
{
	Page *p = c->page;
	float size = (float) t->style.size;

	for (int i = 0; i < n; i++)
	{
		FaceStyle face =
			t->emphasis > 0 && rng_chance(p->rng, t->emphasis) ? any_face(p->rng) : t->face;
		float from = x;

		if (i)
		{
			page_emit_at(p, ' ', (Box){x, base - .78f * size, x + gap, base + .18f * size});
			x += gap;
			from = x;
		}
		x = page_word(p, &t->style, face, x, base, &words[i]);
		if (t->emphasis > 0 && rng_chance(p->rng, t->emphasis / 3))
			page_line(p, from, base + .14f * size, x, base + .14f * size, fmaxf(1, size * .06f),
					  t->style.ink);
	}
}

/*
 * Sets words[n] in lines from c->y on until room or characters end, and
 * returns the box of what was drawn.  Line ends are written as on the page.
 */
static Box
set_lines(Column *c, const Setting *t, Word *words, int n, int *lines)
{
	Page *p = c->page;
	float size = (float) t->style.size;
	float gap = page_advance(p, &t->style, t->face, ' ') * t->style.gap;
	Box box = nothing();
	int before = p->n_units;

	if (gap < size * .12f)
		gap = size * .25f;
	*lines = 0;
	for (int at = 0; at < n && has_room(c, &t->style) && p->n_units - before < c->left;)
	{
		float x = t->x0 + (*lines == 0 ? t->indent : 0);
		float room = t->x1 - x;
		float width;
		float line_gap = gap;
		float base = c->y + .95f * size;
		Word line[96];
		int k = fit(p, t, words + at, n - at < 95 ? n - at : 95, room, gap, &width);

		memcpy(line, words + at, sizeof(Word) * (size_t) k);
		at += k;
		if (at < n && k < 95 && (k == 0 || (t->hyphens && words[at].n > 5)) &&
			cut_word(p, t, &words[at], &line[k], room - width - gap * (float) k))
			width += page_word_width(p, &t->style, t->face, &line[k++]);
		if (k == 0)
		{
			/* not even two letters fit */
			at++;
			continue;
		}
		if (*lines)
			page_emit(p, '\n');
		width += gap * (float) (k - 1);
		if (t->align == ALIGN_CENTRE)
			x += (room - width) / 2;
		else if (t->align == ALIGN_RIGHT)
			x += room - width;
		else if (t->align == ALIGN_BOTH && at < n && k > 2)
			line_gap += fminf((room - width) / (float) (k - 1), gap * 2);
		draw_line(c, t, line, k, x, base, line_gap);
		widen(&box, x, c->y, x + width + (line_gap - gap) * (float) (k - 1), c->y + 1.15f * size);
		c->y += size * t->style.lead;
		++*lines;
	}
	c->left -= p->n_units - before;
	return box;
}

static Setting
setting(const Column *c)
{
	Setting t = {.style = c->style, .x0 = c->x0, .x1 = c->x1};

	t.face = any_face(c->page->rng);
	return t;
}

static void
space_below(Column *c, const Style *s, float lo, float hi)
{
	c->y += (float) s->size * s->lead * rng_between(c->page->rng, lo, hi);
}

bool
block_paragraph(Column *c)
{
	Page *p = c->page;
	Setting t = setting(c);
	float u = rng_unit(p->rng);
	int most = c->left / 5 < MAX_WORDS ? c->left / 5 : MAX_WORDS;
	Word words[MAX_WORDS];
	int n = rng_int(p->rng, 1,
					rng_chance(p->rng, p->request->brief) ? 8
					: most > 90							  ? 90
					: most < 1							  ? 1
														  : most);
	int block;
	int lines;

	if (!has_room(c, &c->style))
		return false;
	t.align = u < .06f ? ALIGN_CENTRE : u < .1f ? ALIGN_RIGHT : u < .4f ? ALIGN_BOTH : ALIGN_LEFT;
	t.indent = t.align != ALIGN_CENTRE && rng_chance(p->rng, .2f) ? (float) t.style.size * 1.5f : 0;
	t.hyphens = rng_chance(p->rng, .25f);
	t.emphasis = rng_chance(p->rng, .15f) ? .15f : 0;
	separate(c);
	block = page_block_begin(p, "text");
	text_words(p, &t.style, text_kind(p), words, n);
	page_block_end(p, block, set_lines(c, &t, words, n, &lines));
	space_below(c, &t.style, .3f, 1.1f);
	return true;
}

bool
block_heading(Column *c)
{
	Page *p = c->page;
	Setting t = setting(c);
	Word words[8];
	bool large = rng_chance(p->rng, .5f);
	int n = rng_int(p->rng, 1, 6);
	int block;
	int lines;

	t.style.size = (int) ((float) t.style.size *
						  (large ? rng_between(p->rng, 1.4f, 1.8f) : rng_between(p->rng, 1, 1.3f)));
	t.face = large && rng_chance(p->rng, .3f) ? FACE_REGULAR : FACE_BOLD;
	t.align = rng_chance(p->rng, .2f) ? ALIGN_CENTRE : ALIGN_LEFT;
	t.style.lead = fminf(t.style.lead, 1.3f);
	/* a heading wants a line below it */
	if (c->left < 12 || c->y + (float) t.style.size * 2.4f > c->y1)
		return false;
	separate(c);
	block = page_block_begin(p, "title");
	page_emit_ascii(p, large ? "# " : "## ");
	text_words(p, &t.style, rng_chance(p->rng, .6f) ? TEXT_PROSE : TEXT_RANDOM, words, n);
	page_block_end(p, block, set_lines(c, &t, words, n, &lines));
	space_below(c, &c->style, .1f, .7f);
	return true;
}

bool
block_list(Column *c)
{
	static const uint32_t marks[] = {0x2022, 0x2022, '-', 0x2013, '*'};
	Page *p = c->page;
	Setting t = setting(c);
	float size = (float) t.style.size;
	float bullet = c->x0 + rng_between(p->rng, 0, size);
	bool numbered = rng_chance(p->rng, .3f);
	uint32_t mark = marks[rng_int(p->rng, 0, 4)];
	int items = rng_int(p->rng, 1, 5);
	Box box = nothing();
	int block;

	if (!has_room(c, &t.style) || !fonts_has(p->fonts, t.style.family->face[t.face], mark))
		return false;
	separate(c);
	block = page_block_begin(p, "list");
	t.x0 = bullet + size * rng_between(p->rng, numbered ? 1.6f : .8f, 2);
	for (int i = 0; i < items && has_room(c, &t.style); i++)
	{
		Word words[24];
		Word label = {.n = 1, .c = {mark}};
		int n = rng_int(p->rng, 1, rng_chance(p->rng, .7f) ? 6 : 20);
		float y = c->y;
		int lines;
		Box b;

		if (i)
			page_emit(p, '\n');
		if (numbered)
		{
			char s[8] = {(char) ('1' + i), rng_chance(p->rng, .8f) ? '.' : ')', 0};

			label = word_of(s);
			page_word(p, &t.style, t.face, bullet, y + .95f * size, &label);
			page_emit(p, ' ');
		}
		else
		{
			page_draw(p, &t.style, t.face, bullet, y + .95f * size, &label);
			page_emit_at(p, '-', (Box){bullet, y, bullet + size * .5f, y + size});
			page_emit(p, ' ');
		}
		text_words(p, &t.style, text_kind(p), words, n);
		b = set_lines(c, &t, words, n, &lines);
		widen(&box, bullet, y, b.x1, b.y1);
	}
	page_block_end(p, block, box);
	space_below(c, &t.style, .2f, .9f);
	return true;
}

/* Lines of "name: value", as in forms and receipts. */
bool
block_pairs(Column *c)
{
	Page *p = c->page;
	Setting t = setting(c);
	float width = c->x1 - c->x0;
	float value = c->x0 + width * rng_between(p->rng, .3f, .6f);
	bool aligned = rng_chance(p->rng, .6f);
	int rows = rng_int(p->rng, 1, 6);
	Box box = nothing();
	int block;

	if (!has_room(c, &t.style) || width < (float) t.style.size * 6)
		return false;
	separate(c);
	block = page_block_begin(p, "text");
	for (int i = 0; i < rows && has_room(c, &t.style); i++)
	{
		float base = c->y + .95f * (float) t.style.size;
		float gap = (float) t.style.size * .3f;
		float x = c->x0;
		int before = p->n_units;
		Word w = text_name(p, &t.style);

		if (i)
			page_emit(p, '\n');
		if (w.n < WORD_MAX && rng_chance(p->rng, .7f))
			w.c[w.n++] = ':';
		if (page_word_width(p, &t.style, t.face, &w) > width * .6f)
			w.n = w.n > 6 ? 6 : w.n;
		x = page_word(p, &t.style, t.face, x, base, &w);
		for (int k = rng_int(p->rng, 1, 3); k > 0; k--)
		{
			float at = k && aligned && x + gap < value ? value : x + gap;

			text_words(p, &t.style, rng_chance(p->rng, .6f) ? TEXT_CODES : TEXT_RANDOM, &w, 1);
			if (at + page_word_width(p, &t.style, t.face, &w) > c->x1)
				break;
			page_emit_at(p, ' ',
						 (Box){x, base - .78f * (float) t.style.size, at,
							   base + .18f * (float) t.style.size});
			x = page_word(p, &t.style, t.face, at, base, &w);
			aligned = aligned && at < value;
		}
		aligned = aligned || rng_chance(p->rng, .9f);
		widen(&box, c->x0, c->y, x, c->y + 1.15f * (float) t.style.size);
		c->y += (float) t.style.size * t.style.lead;
		c->left -= p->n_units - before;
	}
	page_block_end(p, block, box);
	space_below(c, &t.style, .2f, .9f);
	return true;
}

bool
block_line(Column *c, const char *label, int words, Align align)
{
	Setting t = setting(c);
	Word text[8];
	int block;
	int lines;

	if (!has_room(c, &t.style))
		return false;
	t.align = align;
	separate(c);
	block = page_block_begin(c->page, label);
	text_words(c->page, &t.style, TEXT_RANDOM, text, words);
	page_block_end(c->page, block, set_lines(c, &t, text, words, &lines));
	return true;
}

void
column_fill(Column *c)
{
	Rng *r = c->page->rng;
	bool rich = rng_chance(r, c->page->request->rich);

	for (int i = 0, failed = 0; i < 60 && failed < 4 && has_room(c, &c->style); i++)
	{
		float u = rich ? rng_unit(r) : 1;
		bool done = u < .15f   ? block_heading(c)
					: u < .27f ? block_list(c)
					: u < .36f ? block_pairs(c)
					: u < .42f ? block_table(c)
					: u < .45f ? block_picture(c)
							   : block_paragraph(c);

		failed += !done;
	}
}
