/*-------------------------------------------------------------------------
 *
 * effects.h
 *		What paper, scanners and file formats do to a page, and resizing as
 *		the engine does it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RENDER_EFFECTS_H
#define RENDER_EFFECTS_H

#include "page.h"

/* Turns about the centre and shears; fills with paper; adds itself to to_view. */
extern void effect_skew(Page *p, float degrees);
extern void effect_blur(Page *p, float sigma);
extern void effect_noise(Page *p, float sigma);
extern void effect_specks(Page *p, int n);
extern void effect_shade(Page *p, float depth);
extern void effect_bleed(Page *p, const Style *s);
extern void effect_jpeg(Page *p, int quality);

/* Several of them, as the request allows; the geometry first. */
extern void effects_apply(Page *p, const Style *s);

/* Bicubic with a = -0.5, widened on shrinking: [h, w] to [to_h, to_w]. */
extern void resize_bicubic(const uint8_t *from, int w, int h, uint8_t *to, int to_w, int to_h,
						   int to_stride);

#endif
