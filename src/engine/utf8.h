/*-------------------------------------------------------------------------
 *
 * utf8.h
 *		Single characters of UTF-8; whole texts are in tokenizer.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_UTF8_H
#define DSOCR_UTF8_H

#include "base.h"

/*
 * Length of the character at the start of len > 0 bytes, and its code point.
 * Invalid: *code is -1 and the result is how many bytes one U+FFFD replaces
 * (the longest prefix of a character, as the Unicode standard recommends).
 */
extern size_t dsocr_utf8_next(const char *bytes, size_t len, int32_t *code);

/* White_Space of Unicode, which \s means in most languages. */
extern bool dsocr_utf8_is_space(int32_t code);

#endif /* DSOCR_UTF8_H */
