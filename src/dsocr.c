/*-------------------------------------------------------------------------
 *
 * dsocr.c
 *		Entry point of the module: a table of contents.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"

#include "fmgr.h"
#include "jobs_shared.h"
#include "miscadmin.h"
#include "batch_scan.h"
#include "planner.h"

PG_MODULE_MAGIC;

void _PG_init(void);

void
_PG_init(void)
{
	dsocr_guc_init();
	dsocr_batch_scan_init();
	dsocr_planner_init();
	if (process_shared_preload_libraries_in_progress)
	{
		dsocr_shmem_init();
		dsocr_jobs_shmem_init();
		dsocr_worker_init();
		dsocr_launcher_init();
	}
	dsocr_guc_reserve();
}
