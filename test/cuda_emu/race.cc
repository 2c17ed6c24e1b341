/*-------------------------------------------------------------------------
 *
 * race_off.cc
 *		In builds without the race detector nothing is remembered.
 *
 *-------------------------------------------------------------------------
 */
#include "emu_internal.h"

void
dsocr_emu_race_launch(void)
{
}

void
dsocr_emu_race_block(void)
{
}

void
dsocr_emu_race_warp(int)
{
}

void
dsocr_emu_race_barrier(uint32_t)
{
}

void
dsocr_emu_race_read(const void *, size_t, int, const char *, const char *, int)
{
}

void
dsocr_emu_race_atomic(void *, size_t)
{
}

void
dsocr_emu_race_copy_start(const DsocrEmuCopy *)
{
}

void
dsocr_emu_race_copy_end(const DsocrEmuCopy *)
{
}

void
dsocr_emu_race_host_write(const void *, size_t)
{
}

void
dsocr_emu_race_fresh(const void *, size_t)
{
}

void
dsocr_emu_race_gone(const void *, size_t)
{
}
