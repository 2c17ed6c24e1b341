/*-------------------------------------------------------------------------
 *
 * orient_pieces.h
 *		Pieces of ink on a page, and what neighbours say of up and down.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ORIENT_PIECES_H
#define DSOCR_ORIENT_PIECES_H

#include "base.h"

#ifdef DSOCR_WITH_LEPTONICA

#include <leptonica/allheaders.h>

typedef struct DsocrPiece
{
	int x1; /* along the line */
	int x2;
	int y1; /* across it */
	int y2;
} DsocrPiece;

typedef struct DsocrPieces
{
	DsocrPiece *p; /* letters first, then dots; each sorted by x1; to be freed */
	int letters;
	int dots; /* too small for letters: full stops, commas, accents */
	int size; /* of letters, pixels */
} DsocrPieces;

/* What neighbours along a direction say. */
typedef struct DsocrVotes
{
	int aligned; /* pairs with the same top or the same bottom */
	int above;	 /* the same bottom, but one of them reaches higher */
	int below;	 /* the same top, but one of them reaches lower */
	int low;	 /* dots at the bottom of the letter before or behind them */
	int high;	 /* the same at the top */
} DsocrVotes;

/* Of a black and white page.  False when memory is short; no pieces at all are fine. */
extern bool dsocr_pieces_find(PIX *pix, DsocrPieces *out);

/* Look at the pieces as if the page were turned by 90 degrees and mirrored. */
extern void dsocr_pieces_swap_axes(DsocrPieces *s);

extern void dsocr_pieces_vote(const DsocrPieces *s, DsocrVotes *v);

#endif

#endif /* DSOCR_ORIENT_PIECES_H */
