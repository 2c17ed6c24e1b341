/*-------------------------------------------------------------------------
 *
 * compat.h
 *		Differences between PostgreSQL versions; the only file that looks at
 *		PG_VERSION_NUM.
 *
 * Included by dsocr.h behind postgres.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_COMPAT_H
#define DSOCR_COMPAT_H

#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* VARDATA_ANY and its like, which postgres.h had before. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* Writers of EXPLAIN. */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

#if PG_VERSION_NUM < 150000
#error "dsocr needs PostgreSQL 15 or newer"
#endif

/* The number of a process in ProcGlobal->allProcs. */
#if PG_VERSION_NUM >= 170000
#define dsocr_my_procno ((int) MyProcNumber)
#else
#define dsocr_my_procno (MyProc->pgprocno)
#endif

/* A wait set that lives until it is freed, whatever happens to transactions. */
static inline WaitEventSet *
dsocr_wait_set_create(int n_events)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, n_events);
#else
	return CreateWaitEventSet(TopMemoryContext, n_events);
#endif
}

/* Wait events under names of their own where the server can do that. */
#if PG_VERSION_NUM >= 170000
#define DSOCR_WAIT_EVENT(function, event_name)                                                     \
	static inline uint32 function(void)                                                            \
	{                                                                                              \
		static uint32 id = 0;                                                                      \
		if (id == 0)                                                                               \
			id = WaitEventExtensionNew(event_name);                                                \
		return id;                                                                                 \
	}
#else
#define DSOCR_WAIT_EVENT(function, event_name)                                                     \
	static inline uint32 function(void)                                                            \
	{                                                                                              \
		return PG_WAIT_EXTENSION;                                                                  \
	}
#endif

/* Does this session hold the lock? */
#if PG_VERSION_NUM >= 170000
#define dsocr_lock_is_held(tag, mode) LockHeldByMe(tag, mode, false)
#else
#define dsocr_lock_is_held(tag, mode) LockHeldByMe(tag, mode)
#endif

#endif /* DSOCR_COMPAT_H */
