/*-------------------------------------------------------------------------
 *
 * encoding.h
 *		Text between the engine (UTF-8) and the database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ENCODING_H
#define DSOCR_ENCODING_H

#include "dsocr.h"

/*
 * Text of the engine in the server encoding.  What the encoding cannot hold,
 * and what is not UTF-8 at all, becomes '?' and is counted in *replaced,
 * which may be NULL.  The result may be the argument itself.
 */
extern char *dsocr_encoding_to_server(char *utf8, int *replaced);

/* Text of the user in UTF-8, palloc'd or the argument; raises ERROR if it has no such form. */
extern char *dsocr_encoding_to_utf8(char *text);

/* Tell the user how many characters were replaced, if any. */
extern void dsocr_encoding_notice(int replaced);

#endif /* DSOCR_ENCODING_H */
