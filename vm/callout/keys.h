/*
 * keys.h: what a C library keeps per thread by pthread keys, kept per greenlet.
 */
#ifndef MOONLET_CALLOUT_KEYS_H
#define MOONLET_CALLOUT_KEYS_H

struct greenlet;

/* The greenlet has ended and has such data (its `values`): the library is told, as at a thread's
 * end. */
void callout_end_values(struct greenlet *g);

#endif
