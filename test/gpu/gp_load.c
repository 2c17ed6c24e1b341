/*-------------------------------------------------------------------------
 *
 * gp_load.c
 *		Finds gp_tools.so.
 *
 *-------------------------------------------------------------------------
 */
#include "gp_tools.h"

#include <dlfcn.h>
#include <stdio.h>

const GpTools *
gp_tools_load(const char *path)
{
	void *handle = path != NULL ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
	const GpTools *tools = handle != NULL ? dlsym(handle, "gp_tools") : NULL;

	if (path != NULL && tools == NULL)
		fprintf(stderr, "%s\n", dlerror());
	return tools;
}
