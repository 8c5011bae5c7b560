/*
 * locks.h: a mutex of a C library, for condition variables.
 */
#ifndef MOONLET_CALLOUT_LOCKS_H
#define MOONLET_CALLOUT_LOCKS_H

#include <pthread.h>

/* What the library's own calls do. */
int callout_lock_mutex(pthread_mutex_t *mutex);
int callout_unlock_mutex(pthread_mutex_t *mutex);

void callout_open_conditions(void);

#endif
