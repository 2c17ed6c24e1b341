/*-------------------------------------------------------------------------
 *
 * check_routes.h
 *		Which experts a case chooses in fp32, at every position.
 *
 * Reference files hold the router's choices of a few positions.  In bf16 a
 * flip at any other position reaches the stored ones through attention; our
 * own fp32 run, checked against the reference by itself, tells where one
 * happened.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CHECK_ROUTES_H
#define DSOCR_CHECK_ROUTES_H

#include "sequence.h"

typedef struct CheckRoutes
{
	int layers;
	int positions;
	int k;
	int base;	  /* position of row 0 of the chunk that is being recorded */
	int32_t *ids; /* [layers, positions, k] */
} CheckRoutes;

/* Prefill a prompt on an fp32 model and keep all choices; image_at is -1 without views. */
extern bool dsocr_routes_record(CheckRoutes *routes, DsocrModel *exact, const int32_t *ids, int n,
								int image_at, const DsocrPlan *plan, const DsocrViews *views,
								DsocrError *err);

/* Are these k experts of a position others than those recorded, whatever their order? */
extern bool dsocr_routes_differ(const CheckRoutes *routes, int layer, int position,
								const int32_t *ids);

extern void dsocr_routes_free(CheckRoutes *routes);

#endif /* DSOCR_CHECK_ROUTES_H */
