/*-------------------------------------------------------------------------
 *
 * worker.c
 *		Unfinished words.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"

/* TODO: later */	 /* expect: words */
/* see /home/me/x */ /* expect: words */
/* a / work / of art, and/or http://example.org/work/1 */
