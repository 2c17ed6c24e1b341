/*-------------------------------------------------------------------------
 *
 * encoder.c
 *		Good and bad includes of the model.
 *
 *-------------------------------------------------------------------------
 */
#include "encoder.h"
#include "backend.h"
#include "engine.h"	  /* expect: includes */
#include "postgres.h" /* expect: includes */
