/* overflow.c: the SIGSEGV handler (see overflow.h). */
#define _GNU_SOURCE
#include "overflow.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hub.h"

#define ALTERNATE_SIZE (64u << 10)

/* A C function may skip the guard page itself by a large frame: look a little below it. */
#define REACH (64u << 10)

static struct sigaction previous;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local char *alternate;
static _Thread_local int users;

static void say(const struct hub *hub, const struct cstack *stack) {
  char text[300], number[40];
  const struct greenlet *g = hub->current;
  snprintf(number, sizeof number, "Greenlet-%llu", g ? (unsigned long long)g->id : 0);
  int length = snprintf(text, sizeof text,
                        "moonlet: C stack overflow in greenlet %s (its C stack has %zu KB; set "
                        "MOONLET_STACK_KB to have more)\n",
                        g && g->name ? g->name : number, (size_t)(stack->high - stack->low) >> 10);
  if (length > 0 && write(STDERR_FILENO, text, (size_t)length) < 0)
    return;
}

static void on_fault(int signum, siginfo_t *info, void *context) {
  const struct hub *hub = hub_running;
  const struct cstack *stack = hub ? hub->stack : NULL;
  const char *address = info->si_addr;
  (void)context;
  if (stack && stack->map && address >= stack->map - REACH && address < stack->low) {
    say(hub, stack);
    signal(signum, SIG_DFL);
  } else {
    sigaction(signum, &previous, NULL);
  }
  /* Returning repeats the access, under the action just set. */
}

static void install(void) {
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigaction(SIGSEGV, &action, &previous);
}

/* A thread's alternate stack is made by its first runtime, unless the host has one. */
void overflow_open(struct hub *hub) {
  (void)hub;
  stack_t current;
  if (users++ == 0 && sigaltstack(NULL, &current) == 0 && (current.ss_flags & SS_DISABLE)) {
    alternate = malloc(ALTERNATE_SIZE);
    stack_t stack = {.ss_sp = alternate, .ss_size = ALTERNATE_SIZE};
    if (alternate)
      sigaltstack(&stack, NULL);
  }
  pthread_once(&once, install);
}

void overflow_close(struct hub *hub) {
  if (!pthread_equal(hub->thread, pthread_self()) || --users > 0 || !alternate)
    return;
  stack_t none = {.ss_flags = SS_DISABLE};
  sigaltstack(&none, NULL);
  free(alternate);
  alternate = NULL;
}
