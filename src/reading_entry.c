/*-------------------------------------------------------------------------
 *
 * reading_entry.c
 *		Pages of a document that is being read, and answers kept for them.
 *
 *-------------------------------------------------------------------------
 */
#include "reading_state.h"

#include "access/detoast.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "roles.h"
#include "stats.h"

Size dsocr_rendered_bytes = 0;

/* ---- pages ---- */

static void
free_page_result(void *arg)
{
	dsocr_result_free(&((DsocrPageBox *) arg)->page.result);
}

DsocrPageBox *
dsocr_entry_box(DsocrReading *r, int number)
{
	MemoryContext context = AllocSetContextCreate(r->context, "dsocr page", ALLOCSET_SMALL_SIZES);
	DsocrPageBox *box = MemoryContextAllocZero(context, sizeof(DsocrPageBox));
	MemoryContextCallback *callback = MemoryContextAlloc(context, sizeof(MemoryContextCallback));

	box->context = context;
	box->page.number = number;
	callback->func = free_page_result;
	callback->arg = box;
	MemoryContextRegisterResetCallback(context, callback);
	return box;
}

DsocrEntry *
dsocr_entry_of(DsocrReading *r, int number)
{
	return &r->entries[number % r->window];
}

void
dsocr_entry_drop_image(DsocrEntry *e)
{
	dsocr_rendered_bytes -= e->image.image_len;
	dsocr_result_free(&e->image);
	memset(&e->image, 0, sizeof(e->image));
}

void
dsocr_entry_end(DsocrReading *r, int number, const DsocrError *status)
{
	DsocrEntry *e = dsocr_entry_of(r, number);

	e->box = dsocr_entry_box(r, number);
	e->box->page.status = *status;
	e->state = DSOCR_ENTRY_ENDED;
}

int
dsocr_entry_count(DsocrReading *r, DsocrEntryState state)
{
	int n = 0;

	for (int number = r->next_out; number < r->next_in; number++)
		n += dsocr_entry_of(r, number)->state == state;
	return n;
}

int
dsocr_entry_find(DsocrReading *r, DsocrEntryState state)
{
	for (int number = r->next_out; number < r->next_in; number++)
	{
		if (dsocr_entry_of(r, number)->state == state)
			return number;
	}
	return 0;
}

DsocrRequest
dsocr_entry_request(const DsocrReading *r)
{
	return (DsocrRequest){.kind = DSOCR_READ,
						  .task = r->options.task,
						  .priority = r->options.priority,
						  .mode = r->options.mode,
						  .max_tokens = r->options.max_tokens,
						  .ngram_size = dsocr_ngram_size,
						  .ngram_window = dsocr_ngram_window,
						  .max_pixels = dsocr_max_pixels,
						  .auto_rotate = r->options.auto_rotate,
						  .ladder = r->options.mode == DSOCR_MODE_AUTO && !r->options.max_tokens,
						  .prompt = r->options.prompt};
}

/* ---- answers that were kept ---- */

/* The document's digest; it is detoasted for as long as that takes. */
static void
hash_document(DsocrReading *r)
{
	MemoryContext caller = MemoryContextSwitchTo(r->context);
	struct varlena *bytes = PG_DETOAST_DATUM_PACKED(r->document);

	r->hashed = true;
	r->keyed = dsocr_cache_digest(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), r->digest);
	if ((Pointer) bytes != DatumGetPointer(r->document))
		pfree(bytes);
	MemoryContextSwitchTo(caller);
}

bool
dsocr_entry_key(DsocrReading *r, int number, DsocrCacheKey *key)
{
	DsocrRequest request = dsocr_entry_request(r);
	int dpi = r->options.dpi > 0 ? r->options.dpi : DSOCR_DEFAULT_DPI;

	memset(key, 0, sizeof(*key));
	if (!dsocr_cache_is_on())
		return false;
	if (!r->hashed)
		hash_document(r);
	request.page = r->kind == DSOCR_KIND_PAGES ? number : 0;
	return r->keyed &&
		   dsocr_cache_key(&request, r->digest, r->kind == DSOCR_KIND_PAGES ? dpi : 0, key);
}

/* The answer out of the pool, or out of the table and into the pool. */
static void *
get_kept(DsocrEntry *e, const DsocrCacheKey *key, Size *len, char *model)
{
	void *body = dsocr_cache_get(key, len, model);

	if (body != NULL || e->looked)
		return body;
	e->looked = true;
	body = dsocr_cache_table_get(key, len, model);
	if (body != NULL)
		dsocr_cache_put(key, body, *len, model);
	return body;
}

bool
dsocr_entry_find_kept(DsocrReading *r, int number)
{
	DsocrEntry *e = dsocr_entry_of(r, number);
	DsocrCacheKey key;
	DsocrError err = {0};
	DsocrPageBox *box;
	char model[DSOCR_CACHE_MODEL_BYTES];
	Size len;
	void *body;

	if (!dsocr_entry_key(r, number, &key) || (body = get_kept(e, &key, &len, model)) == NULL)
		return false;
	box = dsocr_entry_box(r, number);
	if (!dsocr_parse_result(body, len, &box->page.status, &box->page.result, &err))
		box->page.status = err;
	pfree(body);
	memset(&box->page.result.timings, 0, sizeof(box->page.result.timings));
	strlcpy(box->page.model, model, sizeof(box->page.model));
	box->page.cached = true;
	dsocr_entry_drop_image(e);
	e->box = box;
	e->state = DSOCR_ENTRY_ENDED;
	dsocr_stats_cached();
	dsocr_role_count_cached(GetUserId());
	return true;
}

void
dsocr_entry_keep(DsocrReading *r, int number)
{
	DsocrCacheKey key;
	char model[DSOCR_CACHE_MODEL_BYTES];
	Size len;
	void *body;

	if (!dsocr_cache_table || !dsocr_entry_key(r, number, &key) ||
		(body = dsocr_cache_get(&key, &len, model)) == NULL)
		return;
	dsocr_cache_table_put(&key, body, len, model);
	pfree(body);
}
