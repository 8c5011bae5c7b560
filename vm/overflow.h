/*
 * overflow.h: a C stack overflow says so.
 *
 * A write to a stack's guard page is a SIGSEGV.  Its handler, on a stack of its own, names
 * the greenlet and the remedy; then the signal's former action is taken.
 */
#ifndef MOONLET_OVERFLOW_H
#define MOONLET_OVERFLOW_H

struct hub;

void overflow_open(struct hub *hub);
void overflow_close(struct hub *hub);

#endif
