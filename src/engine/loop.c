/*-------------------------------------------------------------------------
 *
 * loop.c
 *		Has the text run into a loop, and where does it start?
 *
 * Three ways to see one.  Exact: the last ids repeat those one period before,
 * for every period there is.  Counting: the same for a stream in which each
 * number is one symbol, so that rows may be numbered.  Worn: nearly every
 * short run of ids has been there before, though never at the same distance,
 * which is what a loop looks like that the n-gram rule has forced to vary.
 *
 * Legitimate pages repeat as well: columns of equal cells, ruled lines, sheets
 * of labels.  So the limits depend on what is repeated, and are counted in
 * what a page has: rows, lines, copies.  docs/loops.md has the evidence.
 *
 * Histories lie in arrays that slide: the newest entry is always preceded by
 * as many older ones as the longest period needs.
 *
 *-------------------------------------------------------------------------
 */
#include "loop.h"

#include <string.h>

#include "utf8.h"

#define LOOK_EVERY 16 /* ids between two looks at the counters */

/* exact periods */
#define PERIODS 512
#define HISTORY (4 * PERIODS)

/* counting, in symbols */
#define SYMBOL_PERIODS 256
#define SYMBOL_HISTORY (6 * SYMBOL_PERIODS)
#define NUMBER (-1) /* the symbol of all numbers */

/* worn text */
#define GRAM 4			  /* ids of a short run */
#define GRAM_CHARACTERS 8 /* where ids are characters */
#define FEW_KINDS 2048	  /* vocabulary below which they are */
#define GRAM_WINDOW 1024  /* ids a run is remembered for */
#define GRAM_SLOTS 4096

/* what a page may hold */
#define MAX_ROWS 256		 /* of one table, alike */
#define MAX_CELLS 256		 /* of one row, alike */
#define MAX_RULED_LINES 64	 /* without a letter or digit */
#define MAX_RULED_IDS 320	 /* the same in one line */
#define MAX_NUMBERED 120	 /* lines that differ in a number that counts */
#define MAX_NUMBER_LINES 256 /* lines that differ in their numbers */
#define MAX_COUNTED 256		 /* of one line, counting */
#define MAX_NUMBERS 1024	 /* of one line */
#define LABEL_BYTES 130		 /* up to so much text comes in sheets */
#define CARD_BYTES 400		 /* and up to so much in fewer copies */
#define MAX_LABELS 32
#define MAX_CARDS 12
#define MAX_COPIES 5	 /* of anything longer */
#define MIN_LINE_IDS 320 /* repeated lines are no loop before so many ids */
#define SHORT_BYTES 24	 /* inside of a line: 0, 0, 0, ... */
#define MAX_SHORT_IDS 512
#define MAX_NUMBER_IDS 1280 /* numbers and signs, as in a matrix */
#define MAX_PHRASES 10
#define MIN_PHRASE_IDS 240

/*
 * Worn text is scored in characters, roughly: what is known counts for, what
 * is new against it, so that two thirds of it must be known.
 */
#define SCORE_WORD                                                                                 \
	4 /* of a letter's token; all others, and all where ids are characters, count 1 */
#define MAX_WORN_LINES 2400
#define MAX_WORN 1600
#define MAX_WORN_RUN 120 /* what repeats exactly for so long is judged by that */

typedef struct Gram
{
	uint32_t tag;
	int32_t at; /* id behind the run; 0: none */
} Gram;

struct DsocrLoop
{
	const DsocrTokenKind *kinds;
	int n_kinds;
	int gram;	/* ids of a short run */
	int weight; /* of letters */
	int n;		/* ids so far */

	/* exact: run[PERIODS - p] ids in a row equal those p before */
	int held; /* ids in the history */
	int32_t ids[HISTORY];
	uint16_t run[PERIODS];

	/* counting: the same for symbols, with numbers free and with numbers that count */
	bool in_number;
	uint32_t number;
	int number_at;
	int symbols;
	int32_t symbol[SYMBOL_HISTORY];
	uint32_t value[SYMBOL_HISTORY]; /* of numbers */
	uint16_t free_run[SYMBOL_PERIODS];
	uint16_t count_run[SYMBOL_PERIODS];
	int32_t free_from[SYMBOL_PERIODS]; /* id where the run starts */
	int32_t count_from[SYMBOL_PERIODS];

	/* worn */
	Gram grams[GRAM_SLOTS];
	int score;
	int worn_from; /* id where the first known run starts */
	int lines;	   /* in the stretch */
	int rows;
	int cells; /* since the last row's end */
};

/* ---- kinds ---- */

/* Signs that fill lines and frames: dashes, dots, bullets, blocks. */
static bool
is_sign(int32_t code)
{
	return code == 0xb7 || (code >= 0x2010 && code <= 0x2027) || (code >= 0x2500 && code <= 0x25ff);
}

static DsocrTokenKind
kind_of(const char *text, size_t len)
{
	DsocrTokenKind kind = {.length = len < 255 ? (uint8_t) len : 255};
	bool digits = len > 0;
	uint32_t value = 0;

	for (size_t at = 0; at < len;)
	{
		int32_t code;

		at += dsocr_utf8_next(text + at, len - at, &code);
		if (code == '\n')
			kind.holds |= DSOCR_HOLDS_LINE;
		if ((code >= '0' && code <= '9') || ((code | 32) >= 'a' && (code | 32) <= 'z') ||
			code < 0 || (code >= 0x80 && !is_sign(code)))
			kind.holds |= DSOCR_HOLDS_WORD;
		digits = digits && code >= '0' && code <= '9';
		value = value * 10 + (uint32_t) (code & 15);
	}
	if (digits)
	{
		kind.holds |= DSOCR_HOLDS_DIGITS;
		kind.value = (uint16_t) value;
	}
	if (memmem(text, len, "<br", 3) != NULL)
		kind.holds = DSOCR_HOLDS_LINE;
	if (memmem(text, len, "</tr>", 5) != NULL)
		kind.holds = DSOCR_HOLDS_ROW;
	else if (memmem(text, len, "<td", 3) != NULL)
		kind.holds = DSOCR_HOLDS_CELL;
	else if (len > 2 && text[0] == '<' && text[len - 1] == '>')
		kind.holds &= (uint8_t) ~DSOCR_HOLDS_WORD;
	return kind;
}

DsocrTokenKind *
dsocr_token_kinds(const DsocrTokenizer *t, int n, DsocrError *err)
{
	DsocrTokenKind *kinds = dsocr_alloc((size_t) n, sizeof(*kinds), err);
	DsocrBuffer text = {0};

	for (int32_t id = 0; kinds != NULL && id < n; id++)
	{
		text.len = 0;
		if (!dsocr_tokenizer_decode(t, &id, 1, false, &text, err))
		{
			dsocr_free(kinds);
			kinds = NULL;
		}
		else
			kinds[id] = kind_of(text.data, text.len);
	}
	dsocr_buffer_free(&text);
	return kinds;
}

DsocrLoop *
dsocr_loop_new(const DsocrTokenKind *kinds, int n_kinds, DsocrError *err)
{
	DsocrLoop *l = dsocr_zalloc(1, sizeof(*l), err);

	if (l == NULL)
		return NULL;
	l->kinds = kinds;
	l->n_kinds = n_kinds;
	l->gram = n_kinds < FEW_KINDS ? GRAM_CHARACTERS : GRAM;
	l->weight = n_kinds < FEW_KINDS ? 1 : SCORE_WORD;
	return l;
}

void
dsocr_loop_free(DsocrLoop *l)
{
	dsocr_free(l);
}

static DsocrTokenKind
kind(const DsocrLoop *l, int32_t id)
{
	return id >= 0 && id < l->n_kinds ? l->kinds[id] : (DsocrTokenKind){0};
}

static bool
is_letters(DsocrTokenKind k)
{
	return (k.holds & (DSOCR_HOLDS_WORD | DSOCR_HOLDS_DIGITS)) == DSOCR_HOLDS_WORD;
}

/* What the last n ids hold. */
typedef struct Cycle
{
	int bytes;
	int lines;
	int rows;
	int cells;
	bool words;
	bool letters;
} Cycle;

static Cycle
last_ids(const DsocrLoop *l, int n)
{
	Cycle c = {0};

	for (int i = l->held - n; i < l->held; i++)
	{
		DsocrTokenKind k = kind(l, l->ids[i]);

		c.bytes += k.length;
		c.lines += (k.holds & DSOCR_HOLDS_LINE) != 0;
		c.rows += (k.holds & DSOCR_HOLDS_ROW) != 0;
		c.cells += (k.holds & DSOCR_HOLDS_CELL) != 0;
		c.words |= (k.holds & DSOCR_HOLDS_WORD) != 0;
		c.letters |= is_letters(k);
	}
	return c;
}

/* ---- exact ---- */

static void
push_exact(DsocrLoop *l, int32_t id)
{
	int longest = l->n < PERIODS ? l->n : PERIODS;
	const int32_t *before;
	uint16_t *run = l->run + PERIODS - longest;

	if (l->held == HISTORY)
	{
		memmove(l->ids, l->ids + HISTORY - PERIODS, sizeof(*l->ids) * PERIODS);
		l->held = PERIODS;
	}
	before = l->ids + l->held - longest;
#pragma omp simd
	for (int i = 0; i < longest; i++)
		run[i] = before[i] == id ? (uint16_t) (run[i] + 1) : 0;
	l->ids[l->held++] = id;
}

/* Do so many ids that repeat those one period before make a loop? */
static bool
is_exact_loop(const DsocrLoop *l, int period, int run)
{
	int copies = run / period + 1;
	Cycle c;

	if (copies < MAX_COPIES || run < MIN_PHRASE_IDS)
		return false;
	c = last_ids(l, period);
	if (c.rows > 0)
		return copies * c.rows > MAX_ROWS;
	if (c.cells > 0)
		return copies * c.cells > MAX_CELLS;
	if (!c.words)
		return run >= MAX_RULED_IDS && (c.lines == 0 || copies * c.lines > MAX_RULED_LINES);
	if (c.lines == 0 && !c.letters)
		return run > MAX_NUMBER_IDS;
	if (c.lines == 0)
		return c.bytes < SHORT_BYTES ? run >= MAX_SHORT_IDS : copies > MAX_PHRASES;
	if (run < MIN_LINE_IDS)
		return false;
	return copies > (c.bytes <= LABEL_BYTES	 ? MAX_LABELS
					 : c.bytes <= CARD_BYTES ? MAX_CARDS
											 : MAX_COPIES);
}

static int
find_exact(const DsocrLoop *l)
{
	int shortest = 0;

	for (int p = 1; p <= PERIODS; p++)
	{
		int run = l->run[PERIODS - p];

		/* several copies together repeat as well, but say nothing new */
		if (run < MIN_PHRASE_IDS || (shortest > 0 && p % shortest == 0))
			continue;
		if (is_exact_loop(l, p, run))
			return l->n - run;
		if (shortest == 0)
			shortest = p;
	}
	return -1;
}

/* ---- counting ---- */

static bool
counts_on(const DsocrLoop *l, int at, int period)
{
	if (l->symbol[at] != NUMBER || at < 2 * period || l->symbol[at - 2 * period] != NUMBER)
		return true;
	return l->value[at] - l->value[at - period] ==
		   l->value[at - period] - l->value[at - 2 * period];
}

/* A symbol that starts at an id. */
static void
push_symbol(DsocrLoop *l, int32_t symbol, uint32_t value, int from)
{
	int at;

	if (l->symbols == SYMBOL_HISTORY)
	{
		int keep = 2 * SYMBOL_PERIODS;

		memmove(l->symbol, l->symbol + l->symbols - keep, sizeof(*l->symbol) * (size_t) keep);
		memmove(l->value, l->value + l->symbols - keep, sizeof(*l->value) * (size_t) keep);
		l->symbols = keep;
	}
	at = l->symbols++;
	l->symbol[at] = symbol;
	l->value[at] = value;
	for (int p = 1; p <= SYMBOL_PERIODS && p <= at; p++)
	{
		bool same = l->symbol[at - p] == symbol;
		bool counted = same && counts_on(l, at, p);

		if (same && l->free_run[p - 1]++ == 0)
			l->free_from[p - 1] = from;
		if (counted && l->count_run[p - 1]++ == 0)
			l->count_from[p - 1] = from;
		if (!same)
			l->free_run[p - 1] = 0;
		if (!counted)
			l->count_run[p - 1] = 0;
	}
}

static void
push_counting(DsocrLoop *l, int32_t id, DsocrTokenKind k)
{
	if (k.holds & DSOCR_HOLDS_DIGITS)
	{
		if (!l->in_number)
			l->number = 0;
		if (!l->in_number)
			l->number_at = l->n;
		l->in_number = true;
		for (int i = 0; i < k.length; i++)
			l->number *= 10;
		l->number += k.value;
		return;
	}
	if (l->in_number)
		push_symbol(l, NUMBER, l->number, l->number_at);
	l->in_number = false;
	push_symbol(l, id, 0, l->n);
}

/* Copies that a cycle of so many symbols may have; INT32_MAX when it holds no number. */
static int
most_copies(const DsocrLoop *l, int period, int lines_allowed, int numbers_allowed)
{
	bool number = false;
	int lines = 0;
	int rows = 0;
	int cells = 0;

	for (int i = l->symbols - period; i < l->symbols; i++)
	{
		uint8_t holds = l->symbol[i] == NUMBER ? 0 : kind(l, l->symbol[i]).holds;

		number |= l->symbol[i] == NUMBER;
		lines += (holds & DSOCR_HOLDS_LINE) != 0;
		rows += (holds & DSOCR_HOLDS_ROW) != 0;
		cells += (holds & DSOCR_HOLDS_CELL) != 0;
	}
	if (!number)
		return INT32_MAX;
	if (rows > 0)
		return MAX_ROWS / rows;
	if (cells > 0)
		return MAX_CELLS / cells;
	return lines > 0 ? lines_allowed / lines : numbers_allowed;
}

static int
find_counting(const DsocrLoop *l)
{
	for (int p = 1; p <= SYMBOL_PERIODS && p <= l->symbols; p++)
	{
		int free_run = l->free_run[p - 1];
		int count_run = l->count_run[p - 1];

		if (free_run < MIN_PHRASE_IDS)
			continue;
		if (count_run / p >= most_copies(l, p, MAX_NUMBERED, MAX_COUNTED))
			return l->count_from[p - 1];
		if (free_run / p >= most_copies(l, p, MAX_NUMBER_LINES, MAX_NUMBERS))
			return l->free_from[p - 1];
	}
	return -1;
}

/* ---- worn ---- */

/* Was the run of ids that ends here within the window?  Remembers it. */
static bool
is_known(DsocrLoop *l)
{
	uint32_t h = 2166136261U;
	Gram *g;
	bool known;

	if (l->held < l->gram)
		return false;
	for (int i = l->held - l->gram; i < l->held; i++)
	{
		h = (h ^ (uint32_t) l->ids[i]) * 0x9e3779b1U;
		h ^= h >> 15;
	}
	g = &l->grams[h % GRAM_SLOTS];
	known = g->at > 0 && g->tag == h && l->n + 1 - g->at <= GRAM_WINDOW;
	*g = (Gram){h, l->n + 1};
	return known;
}

static void
push_worn(DsocrLoop *l, DsocrTokenKind k)
{
	bool known = is_known(l);

	if (l->score == 0)
	{
		if (!known)
			return;
		l->worn_from = l->n + 1 - l->gram;
		l->lines = l->rows = l->cells = 0;
	}
	if (!known)
		l->score -= 2 * l->weight;
	else
		l->score += is_letters(k) ? l->weight : 1;
	if (l->score < 0)
		l->score = 0;
	if (l->score > MAX_WORN_LINES)
		l->score = MAX_WORN_LINES;
	if (k.holds & DSOCR_HOLDS_LINE)
		l->lines++;
	if (k.holds & DSOCR_HOLDS_CELL)
		l->cells++;
	if (k.holds & DSOCR_HOLDS_ROW)
	{
		l->rows++;
		l->cells = 0;
	}
}

static int
find_worn(const DsocrLoop *l)
{
	bool worn;

	if (l->rows > 0 || l->cells > 0)
		worn = l->score > 0 && (l->rows > MAX_ROWS || l->cells > MAX_CELLS);
	else
		worn = l->score >= (l->lines > 0 ? MAX_WORN_LINES : MAX_WORN);
	for (int i = 0; worn && i < PERIODS; i++)
		worn = l->run[i] < MAX_WORN_RUN;
	for (int i = 0; worn && i < SYMBOL_PERIODS; i++)
		worn = l->free_run[i] < MAX_WORN_RUN;
	return worn ? l->worn_from : -1;
}

int
dsocr_loop_push(DsocrLoop *l, int32_t id)
{
	DsocrTokenKind k = kind(l, id);
	int keep = -1;

	push_counting(l, id, k);
	push_exact(l, id);
	push_worn(l, k);
	l->n++;
	if (l->n % LOOK_EVERY != 0)
		return -1;
	keep = find_exact(l);
	if (keep < 0)
		keep = find_counting(l);
	if (keep < 0)
		keep = find_worn(l);
	return keep;
}
