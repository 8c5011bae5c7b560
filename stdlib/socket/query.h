/*
 * query.h: questions answered by a library that speaks DNS itself, on sockets of its own.
 *
 * The library's module never waits: it says which of its descriptors to wait for and how
 * long, and goes on when it is told to.  It knows neither Lua's states nor the hub, so that
 * it links with its library alone.  The waiting is done here: while a greenlet waits in the
 * question's ring, the descriptors are watched, and the greenlet has the library go on.
 */
#ifndef MOONLET_QUERY_H
#define MOONLET_QUERY_H

#include <poll.h>
#include <stdbool.h>

#define QUERY_DESCRIPTORS 16 /* at most so many at once */

struct hub;
struct query;
struct question;

/* The field `query_kind` of the module is a light userdata with this. */
struct query_kind {
  /* Begins to answer; NULL: `failure` of the question says why not. */
  void *(*open)(struct question *question, const char *servers); /* NULL: the system's */
  bool (*process)(void *channel); /* without waiting; whether the question is answered */
  int (*descriptors)(void *channel, struct pollfd descriptors[QUERY_DESCRIPTORS]);
  double (*patience)(void *channel); /* seconds after which to go on anyway; < 0: no limit */
  void (*close)(void *channel);
  bool (*are_servers)(const char *servers); /* whether `open` would take them */
};

/* Begins to answer the question.  NULL: it is answered already. */
struct query *query_new(struct hub *hub, struct question *question, const struct query_kind *kind,
                        const char *servers);
void query_free(struct query *query);

/* Goes on as far as possible without waiting; whether the question is answered. */
bool query_process(struct query *query);

/* A greenlet begins to wait in the question's ring, and ceases to.  The descriptors may be others
   after each query_process, so none are watched meanwhile. */
void query_watch(struct query *query);
void query_unwatch(struct query *query);

#endif
