/*-------------------------------------------------------------------------
 *
 * cli_ocr.c
 *		A program may print and end.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>

#include "engine.h"

int
main(void)
{
	printf("text\n");
	exit(0);
}
