/* libslow.c: a library that waits, as libldap does. */
#define _GNU_SOURCE
#include <unistd.h>

void slow_wait(void) __attribute__((visibility("default")));

void slow_wait(void) { usleep(20000); }
