/*-------------------------------------------------------------------------
 *
 * image.c
 *		Library code that ends, prints and allocates.
 *
 *-------------------------------------------------------------------------
 */
#include "base.h"

/* malloc( and exit( in a comment are harmless, so are "abort()" strings. */
static void
bad(void)
{
	const char *text = "printf(exit(1))";

	exit(1);				  /* expect: library */
	printf("x");			  /* expect: library */
	fprintf(stderr, "%s", text); /* expect: library */
	free(malloc(1));		  /* expect: library */
	snprintf(0, 0, "%s", text);
	dsocr_free(dsocr_alloc(1, 1, 0));
}
