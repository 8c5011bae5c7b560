/*
 * io.h: waiting for descriptors.
 *
 * Each descriptor that is waited for has one libev watcher and one ring of waiters,
 * whose `events` say what for.  The watcher of a descriptor of somebody else's is set anew
 * for each wait, since the number may have been closed and used again meanwhile.  One that
 * belongs to a handle of ours (io_own) goes on watching for input between waits, so that a
 * conversation costs no epoll_ctl.  Whatever is new is checked before libev sees it, since
 * libev ends the process over a descriptor that is not open.
 */
#ifndef MOONLET_IO_H
#define MOONLET_IO_H

#include <lua.h>
#include <stdbool.h>

struct hub;
struct link;

#define IO_CLOSED (-1) /* in a waiter's `revents`: the descriptor is not open */

void io_open(struct hub *hub);
void io_close(struct hub *hub);

/* Stops watchers of descriptors closed since they were started; before each poll. */
void io_verify(struct hub *hub);

/* Whether some are waited for without a try (io_untried), and stops watchers of those closed. */
bool io_any_untried(const struct hub *hub);
void io_verify_untried(struct hub *hub);

/* How many waiters were told since the last call that their descriptor is ready. */
int io_take_found(struct hub *hub);

/* The ring of those who wait for `fd`; raises when out of memory, or returns NULL. */
struct link *io_ring(lua_State *L, struct hub *hub, int fd);
struct link *io_find_ring(struct hub *hub, int fd);

/*
 * The descriptor *holder belongs to the handle that holds it from now on, which calls
 * io_disown before it closes it or gives it away.  If another handle has it, or had it when
 * it was closed behind our back, that one is left with -1.  Returns its ring; raises when
 * out of memory.
 */
struct link *io_own(lua_State *L, struct hub *hub, int *holder);

/* Wakes all who wait for it (IO_CLOSED) and stops watching it, whoever's it is; a handle that
   had it is left with -1.  Its ring is no more than a place for them to leave from then on. */
void io_disown(struct hub *hub, int fd);

/* Tells those in the ring who wait for one of the events that their descriptor is ready. */
void io_tell(struct link *ring, int events);

/*
 * The wait that follows begins without a try, which would have told that the descriptor has been
 * closed behind our back: it is looked at before the loop waits.
 */
void io_untried(struct link *ring);

/* A waiter, its `events` set, has joined the ring, or has left it. */
void io_enter(struct link *ring);
void io_leave(struct link *ring);

/*
 * The same for operations that one greenlet at a time may be in, from its first wait to its
 * last: what is read belongs to one of them.  (TLS may wait for output in order to read.)
 */
void io_enter_reading(struct link *ring);
void io_leave_reading(struct link *ring);
void io_enter_writing(struct link *ring);
void io_leave_writing(struct link *ring);
bool io_reading(const struct link *ring);
bool io_writing(const struct link *ring);

/* Memory of the hub's to read into, IO_SCRATCH bytes; raises when out of memory. */
#define IO_SCRATCH 65536
char *io_scratch(lua_State *L, struct hub *hub);

/* Without waiting: which of the events a descriptor is ready for now. */
int io_poll(int fd, int events);

/* A descriptor from argument `arg`: an integer, a Lua file, an object with getfd. */
int io_checkfd(lua_State *L, int arg);

#endif
