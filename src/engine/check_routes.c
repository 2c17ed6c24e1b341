/*-------------------------------------------------------------------------
 *
 * check_routes.c
 *		Which experts a case chooses in fp32, at every position.
 *
 *-------------------------------------------------------------------------
 */
#include "check_routes.h"

#include <string.h>

static int32_t *
choice(const CheckRoutes *routes, int layer, int position)
{
	return routes->ids +
		   ((size_t) layer * (size_t) routes->positions + (size_t) position) * (size_t) routes->k;
}

static void
see_choices(void *arg, int layer, const float *logits, const int32_t *ids, const float *weights,
			int rows, int experts, int k)
{
	CheckRoutes *routes = arg;

	for (int row = 0; row < rows; row++)
		memcpy(choice(routes, layer, routes->base + row), ids + (size_t) row * (size_t) k,
			   sizeof(int32_t) * (size_t) k);
}

static bool
prefill(CheckRoutes *routes, DsocrSequence *s, DsocrModel *m, DsocrError *err)
{
	DsocrRouterTap tap = {see_choices, routes};
	DsocrWatch watch = {.router_tap = &tap};

	while (s->filled < s->prompt_len)
	{
		routes->base = s->filled;
		if (!dsocr_sequence_prefill(s, m, &watch, err))
			return false;
	}
	return true;
}

bool
dsocr_routes_record(CheckRoutes *routes, DsocrModel *exact, const int32_t *ids, int n, int image_at,
					const DsocrPlan *plan, const DsocrViews *views, DsocrError *err)
{
	const DsocrConfig *config = &exact->config;
	DsocrWatch watch = {0};
	DsocrSequence s = {0};
	DsocrKvCache *kv;
	size_t count = 0;
	bool ok;

	*routes = (CheckRoutes){config->layers, n, config->experts_per_token, 0, NULL};
	if (!dsocr_mul((size_t) config->layers, (size_t) n, &count) ||
		!dsocr_mul(count, (size_t) routes->k, &count))
		return dsocr_fail(err, DSOCR_E_MEMORY, "prompt of %d tokens is too long", n);
	routes->ids = dsocr_zalloc(count, sizeof(int32_t), err);
	kv = routes->ids != NULL ? dsocr_kv_cache_open(exact->be, config, dsocr_kv_pages(n + 1), 1, err)
							 : NULL;
	ok = kv != NULL && dsocr_sequence_start(&s, exact, ids, n, n + 1, image_at, plan, err) &&
		 (dsocr_sequence_reserve(&s, exact, kv) ||
		  dsocr_fail(err, DSOCR_E_MEMORY, "no pages for %d positions", n)) &&
		 dsocr_sequence_embed(&s, exact, err);
	for (int i = 0; ok && image_at >= 0 && i < views->n; i++)
	{
		const DsocrSequenceView one = {&s, i, views->rgb[i]};

		ok = dsocr_sequence_views(&one, 1, views->size[i], exact, &watch, err);
	}
	ok = ok && prefill(routes, &s, exact, err);
	dsocr_sequence_end(&s, exact);
	dsocr_kv_cache_close(kv);
	return ok;
}

bool
dsocr_routes_differ(const CheckRoutes *routes, int layer, int position, const int32_t *ids)
{
	const int32_t *exact = choice(routes, layer, position);

	for (int i = 0; i < routes->k; i++)
	{
		bool found = false;

		for (int j = 0; j < routes->k; j++)
			found |= ids[i] == exact[j];
		if (!found)
			return true;
	}
	return false;
}

void
dsocr_routes_free(CheckRoutes *routes)
{
	dsocr_free(routes->ids);
	routes->ids = NULL;
}
