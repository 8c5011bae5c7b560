/*
 * timeout.h: the class Timeout, an error raised in the greenlet that started it when
 * its time is up.
 */
#ifndef MOONLET_TIMEOUT_H
#define MOONLET_TIMEOUT_H

#include "hub.h"

struct timeout {
  struct class_object object;
  struct countdown *countdown; /* from start() until it is raised or cancelled */
  double seconds;
  bool never; /* seconds are nil */
};

extern const struct class_kind timeout_kind;

/* For the module: with_timeout. */
extern const luaL_Reg timeout_functions[];

/* When the hub goes, after all interrupts. */
void timeouts_close(struct hub *hub);

#endif
