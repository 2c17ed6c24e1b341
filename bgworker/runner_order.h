/*-------------------------------------------------------------------------
 *
 * runner_order.h
 *		The columns of index job_queue_order, which are expressions.
 *
 * For runner_lanes.c and runner_claim.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_RUNNER_ORDER_H
#define DSOCR_RUNNER_ORDER_H

/* dsocr_job_lane, and the id. */
#define DSOCR_ORDER_LANE                                                                           \
	"(q.priority::pg_catalog.int8 OPERATOR(pg_catalog.*) 4294967296::pg_catalog.int8"              \
	" OPERATOR(pg_catalog.+) q.owner::pg_catalog.oid::pg_catalog.int8)"
#define DSOCR_ORDER_ID "(q.id OPERATOR(pg_catalog.+) 0::pg_catalog.int8)"

#endif /* DSOCR_RUNNER_ORDER_H */
