/*
 * worker.h: what pools of threads and of processes have in common.
 *
 * A request is a message (values.h) with a function and its arguments, an answer one with
 * the results, or an error and its traceback.  The caller's side makes requests and takes
 * answers, the worker's side performs them.
 */
#ifndef MOONLET_WORKER_H
#define MOONLET_WORKER_H

#include <lua.h>

#include "values.h"

/* Does what a request asks for.  Raises nothing; an empty answer: out of memory. */
void worker_perform(lua_State *L, const struct values *request, struct values *answer);

/* Pushes the results in an answer and returns how many, or raises the error in it. */
int worker_deliver(lua_State *L, const struct values *answer);

#endif
