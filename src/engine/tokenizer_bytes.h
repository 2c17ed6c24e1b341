/*-------------------------------------------------------------------------
 *
 * tokenizer_bytes.h
 *		How the file of a byte-level BPE spells bytes.
 *
 * Printable bytes stand for themselves, the others for U+0100 and up in
 * ascending order.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_TOKENIZER_BYTES_H
#define DSOCR_TOKENIZER_BYTES_H

#include "base.h"

/* The UTF-8 of a byte's character; 1 or 2 bytes. */
extern size_t dsocr_bpe_spell_byte(int byte, char text[2]);

/*
 * Bytes that a token, as the file writes it, stands for: a character for a
 * byte, or the token itself when one of its characters stands for no byte.
 */
extern bool dsocr_bpe_spell_bytes(const char *token, size_t len, DsocrBuffer *out, DsocrError *err);

#endif /* DSOCR_TOKENIZER_BYTES_H */
