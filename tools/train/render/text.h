/*-------------------------------------------------------------------------
 *
 * text.h
 *		What is written on the pages: prose, words of many languages, names,
 *		numbers, codes, and strings that mean nothing.
 *
 * Half of everything is unpredictable on purpose, so that a model has to
 * look at the letters.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RENDER_TEXT_H
#define RENDER_TEXT_H

#include "page.h"

typedef enum TextKind
{
	TEXT_PROSE,
	TEXT_RANDOM, /* words, codes and letters in any order */
	TEXT_CODES,
} TextKind;

/* DIR/{train,held}/prose.txt and words.*.txt, one paragraph or word a line. */
extern Texts *texts_open(const char *dir);

extern TextKind text_kind(Page *p);
/* Fills out[n]; every word can be drawn in this style. */
extern void text_words(Page *p, const Style *s, TextKind kind, Word *out, int n);
extern Word text_number(Page *p);
/* A line of molecules.txt, see molecules.py. */
extern const char *text_molecule(Page *p);
extern Word text_name(Page *p, const Style *s);

#endif
