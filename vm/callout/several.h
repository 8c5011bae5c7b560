/*
 * several.h: waiting for several descriptors at once.
 *
 * Each has a waiter of its own in the descriptor's ring; told, it wakes the greenlet, which waits
 * in a ring of the call's.  What libev cannot wait for (urgent data, or only the end) is put into
 * an epoll of our own, which libev can wait for.
 */
#ifndef MOONLET_CALLOUT_SEVERAL_H
#define MOONLET_CALLOUT_SEVERAL_H

#include <poll.h>

#include "callout.h"

/*
 * Waits until one of them may be ready, in the way that poll means it, or until `due`:
 * CALLOUT_LATE.  The caller asks the kernel which ones are.
 */
enum callout_end callout_wait_several(struct hub *hub, const char *name,
                                      const struct pollfd *polled, nfds_t count, double due);

#endif
