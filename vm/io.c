/* io.c: descriptors in the hub (see io.h). */
#define _GNU_SOURCE
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <lualib.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hub.h"

struct io {
  ev_io watcher;
  struct link waiting; /* ring of waiters */
  struct link fresh;   /* linked: set since the last poll, or untried, or an orphan */
  struct hub *hub;
  int *holder; /* the descriptor in the handle of ours that has it; NULL: nobody's */
  bool idle;   /* watches though nobody waits, and does not keep the loop alive */
  bool reading, writing;
  uint8_t unasked; /* how often in a row there was input that nobody waited for */
  int entered;     /* how many are between io_enter and io_leave */
  bool orphan;     /* disowned: no longer in the table, freed once all have left */
};

struct io_table {
  struct io **by_fd;
  int size;
  struct link fresh;   /* ring: set since the last poll */
  struct link untried; /* ring: waited for without a try */
  struct link orphans; /* ring: no longer in the table, but with somebody in them */
  char *scratch;
  int found;
};

/* Input may be reported again before the greenlet that was told has read it. */
#define MAX_UNASKED 8

/* ---- watchers ---- */

/* Only a watcher that somebody waits for keeps the loop alive. */
static void set_idle(struct io *io, bool idle) {
  if (idle && !io->idle)
    ev_unref(io->hub->loop);
  else if (!idle && io->idle)
    ev_ref(io->hub->loop);
  io->idle = idle;
}

static void set_watcher(struct io *io, int events) {
  struct ev_loop *loop = io->hub->loop;
  set_idle(io, false);
  ev_io_stop(loop, &io->watcher);
  if (events) {
    ev_io_set(&io->watcher, io->watcher.fd, events);
    ev_io_start(loop, &io->watcher);
    set_idle(io, list_empty(&io->waiting));
  }
  if (list_linked(&io->fresh))
    list_remove(&io->fresh);
  if (events)
    list_append(&io->hub->io->fresh, &io->fresh);
}

static int watched(const struct io *io) {
  return ev_is_active(&io->watcher) ? io->watcher.events & (EV_READ | EV_WRITE) : 0;
}

static int wanted(struct io *io) {
  int events = 0;
  list_each(it, &io->waiting) events |= container_of(it, struct waiter, link)->events;
  return events;
}

int io_take_found(struct hub *hub) {
  int found = hub->io->found;
  hub->io->found = 0;
  return found;
}

static void notify(struct io *io, int revents) {
  list_each(it, &io->waiting) {
    struct waiter *waiter = container_of(it, struct waiter, link);
    if (revents == IO_CLOSED || (waiter->events & revents)) {
      waiter->revents = (short)(revents == IO_CLOSED ? IO_CLOSED : waiter->events & revents);
      waiter->notify(waiter);
      io->hub->io->found++;
    }
  }
}

void io_tell(struct link *ring, int events) {
  notify(container_of(ring, struct io, waiting), events);
}

/* After a change in the ring: watches for what is wanted, and of its own accord for input. */
static void adjust(struct io *io, int events) {
  int now = watched(io);
  if (io->holder && io->unasked < MAX_UNASKED)
    events |= now & EV_READ;
  if (events != now || !io->holder)
    set_watcher(io, events);
  else if (now)
    set_idle(io, list_empty(&io->waiting));
}

static void on_ready(struct ev_loop *loop, ev_io *watcher, int revents) {
  struct io *io = container_of(watcher, struct io, watcher);
  (void)loop;
  if (list_linked(&io->fresh))
    list_remove(&io->fresh); /* from those untried */
  if ((revents & EV_READ) && !(wanted(io) & EV_READ))
    io->unasked++;
  else
    io->unasked = 0;
  notify(io, revents);
  adjust(io, wanted(io));
}

static void verify(struct hub *hub, struct link *ring) {
  list_each(it, ring) {
    struct io *io = container_of(it, struct io, fresh);
    list_remove(it);
    if (fcntl(io->watcher.fd, F_GETFD) == -1)
      io_disown(hub, io->watcher.fd);
  }
}

void io_verify(struct hub *hub) {
  list_each(it, &hub->io->orphans) {
    struct io *io = container_of(it, struct io, fresh);
    if (io->entered == 0) {
      list_remove(it);
      free(io);
    }
  }
  verify(hub, &hub->io->fresh);
}

bool io_any_untried(const struct hub *hub) { return !list_empty(&hub->io->untried); }

void io_verify_untried(struct hub *hub) { verify(hub, &hub->io->untried); }

void io_untried(struct link *ring) {
  struct io *io = container_of(ring, struct io, waiting);
  if (!list_linked(&io->fresh))
    list_append(&io->hub->io->untried, &io->fresh);
}

/* ---- the table ---- */

void io_open(struct hub *hub) {
  hub->io = calloc(1, sizeof *hub->io);
  if (hub->io) {
    list_init(&hub->io->fresh);
    list_init(&hub->io->untried);
    list_init(&hub->io->orphans);
  }
}

void io_close(struct hub *hub) {
  if (!hub->io)
    return;
  for (int fd = 0; fd < hub->io->size; fd++)
    if (hub->io->by_fd[fd]) {
      set_watcher(hub->io->by_fd[fd], 0);
      free(hub->io->by_fd[fd]);
    }
  list_each(it, &hub->io->orphans) free(container_of(it, struct io, fresh));
  free(hub->io->by_fd);
  free(hub->io->scratch);
  free(hub->io);
  hub->io = NULL;
}

static bool grow(struct io_table *table, int fd) {
  int size = table->size ? table->size : 64;
  while (size <= fd)
    size *= 2;
  struct io **by_fd = realloc(table->by_fd, (size_t)size * sizeof *by_fd);
  if (!by_fd)
    return false;
  memset(by_fd + table->size, 0, (size_t)(size - table->size) * sizeof *by_fd);
  table->by_fd = by_fd;
  table->size = size;
  return true;
}

static struct io *find(struct hub *hub, int fd) {
  struct io_table *table = hub->io;
  if (fd >= table->size && !grow(table, fd))
    return NULL;
  struct io *io = table->by_fd[fd];
  if (!io && (io = calloc(1, sizeof *io))) {
    ev_io_init(&io->watcher, on_ready, fd, EV_READ);
    list_init(&io->waiting);
    io->hub = hub;
    table->by_fd[fd] = io;
  }
  return io;
}

struct link *io_find_ring(struct hub *hub, int fd) {
  struct io *io = find(hub, fd);
  return io ? &io->waiting : NULL;
}

struct link *io_ring(lua_State *L, struct hub *hub, int fd) {
  struct link *ring = io_find_ring(hub, fd);
  if (!ring)
    luaL_error(L, "not enough memory");
  return ring;
}

struct link *io_own(lua_State *L, struct hub *hub, int *holder) {
  int fd = *holder;
  io_disown(hub, fd);
  *holder = fd;
  struct link *ring = io_ring(L, hub, fd);
  struct io *io = container_of(ring, struct io, waiting);
  io->holder = holder;
  io->unasked = 0;
  return ring;
}

void io_disown(struct hub *hub, int fd) {
  struct io *io = hub->io && fd >= 0 && fd < hub->io->size ? hub->io->by_fd[fd] : NULL;
  if (!io)
    return;
  if (io->holder)
    *io->holder = -1;
  io->holder = NULL;
  set_watcher(io, 0);
  notify(io, IO_CLOSED);
  if (io->entered) {
    io->orphan = true;
    list_append(&hub->io->orphans, &io->fresh);
    hub->io->by_fd[fd] = NULL;
  }
}

/* Who was told before the descriptor was closed, and found nothing, comes back to an orphan. */
static void enter(struct io *io) {
  int events = wanted(io);
  if (events & EV_READ)
    io->unasked = 0;
  io->entered++;
  if (io->orphan)
    notify(io, IO_CLOSED);
  else
    adjust(io, events);
}

static void leave(struct io *io) {
  int events = wanted(io);
  io->entered--;
  if (!io->orphan && (io->holder || !events || events != watched(io)))
    adjust(io, events);
}

void io_enter(struct link *ring) { enter(container_of(ring, struct io, waiting)); }

void io_leave(struct link *ring) { leave(container_of(ring, struct io, waiting)); }

void io_enter_reading(struct link *ring) {
  struct io *io = container_of(ring, struct io, waiting);
  io->reading = true;
  enter(io);
}

void io_leave_reading(struct link *ring) {
  struct io *io = container_of(ring, struct io, waiting);
  io->reading = false;
  leave(io);
}

void io_enter_writing(struct link *ring) {
  struct io *io = container_of(ring, struct io, waiting);
  io->writing = true;
  enter(io);
}

void io_leave_writing(struct link *ring) {
  struct io *io = container_of(ring, struct io, waiting);
  io->writing = false;
  leave(io);
}

bool io_reading(const struct link *ring) {
  return container_of(ring, const struct io, waiting)->reading;
}

bool io_writing(const struct link *ring) {
  return container_of(ring, const struct io, waiting)->writing;
}

char *io_scratch(lua_State *L, struct hub *hub) {
  if (!hub->io->scratch && !(hub->io->scratch = malloc(IO_SCRATCH)))
    luaL_error(L, "not enough memory");
  return hub->io->scratch;
}

/* What the method getfd of the object at `arg` says. */
static lua_Integer ask_for_fd(lua_State *L, int arg) {
  int top = lua_gettop(L);
  arg = lua_absindex(L, arg);
  bool indexable = lua_istable(L, arg) || luaL_getmetafield(L, arg, "__index") != LUA_TNIL;
  if (!indexable || lua_getfield(L, arg, "getfd") != LUA_TFUNCTION)
    luaL_typeerror(L, arg, "descriptor, file or object with getfd");
  lua_pushvalue(L, arg);
  lua_call(L, 1, 1);
  lua_Integer fd = lua_isnumber(L, -1) ? (lua_Integer)lua_tonumber(L, -1) : -1;
  lua_settop(L, top);
  return fd;
}

int io_checkfd(lua_State *L, int arg) {
  luaL_Stream *stream = luaL_testudata(L, arg, LUA_FILEHANDLE);
  lua_Integer fd;
  if (stream) {
    luaL_argcheck(L, stream->closef, arg, "file is closed");
    fd = fileno(stream->f);
  } else if (lua_type(L, arg) == LUA_TNUMBER) {
    fd = luaL_checkinteger(L, arg);
  } else if (lua_istable(L, arg) || lua_isuserdata(L, arg)) {
    fd = ask_for_fd(L, arg);
  } else {
    return luaL_typeerror(L, arg, "descriptor, file or object with getfd");
  }
  luaL_argcheck(L, fd >= 0 && fd <= 1 << 20 && fcntl((int)fd, F_GETFD) != -1, arg,
                "not an open descriptor");
  return (int)fd;
}

/* ---- for C functions ---- */

/* Pushes what was found, for a greenlet that is current again. */
static int found(lua_State *L, int fd, bool timed_out) {
  int revents = timed_out ? 0 : hub_of(L)->current->wait.revents;
  return revents == IO_CLOSED ? luaL_error(L, "descriptor %d is not open", fd) : revents;
}

static struct link *prepare(lua_State *L, struct greenlet *g, int fd, int events) {
  if (fd < 0 || fcntl(fd, F_GETFD) == -1)
    luaL_error(L, "descriptor %d is not open", fd);
  if (!(events & (EV_READ | EV_WRITE)) || (events & ~(EV_READ | EV_WRITE)))
    luaL_error(L, "events must be EV_READ, EV_WRITE or both");
  struct link *ring = io_ring(L, g->hub, fd);
  g->wait.events = (short)events;
  g->wait.revents = 0;
  return ring;
}

int io_poll(int fd, int events) {
  struct pollfd polled = {.fd = fd};
  polled.events = (short)((events & EV_READ ? POLLIN : 0) | (events & EV_WRITE ? POLLOUT : 0));
  if (poll(&polled, 1, 0) <= 0)
    return 0;
  int failed = polled.revents & (POLLERR | POLLHUP) ? EV_READ | EV_WRITE : 0;
  int found = (polled.revents & POLLIN ? EV_READ : 0) | (polled.revents & POLLOUT ? EV_WRITE : 0);
  return events & (found | failed);
}

int moonlet_wait_fd(lua_State *L, int fd, int events, double timeout) {
  static const struct wait_kind kind = {
      .name = "a descriptor", .external = true, .enter = io_enter, .leave = io_leave};
  struct greenlet *g = hub_pinning(hub_of(L), L);
  struct link *ring = prepare(L, g, fd, events);
  if (timeout == 0)
    return io_poll(fd, events);
  bool woken = wait_here(L, ring, timeout < 0 ? NO_LIMIT : timeout, &kind);
  return found(L, fd, !woken);
}

/* On top of the stack: the continuation, its context, the descriptor. */
static int continue_step(lua_State *L, bool timed_out) {
  int revents = found(L, (int)lua_tointeger(L, -1), timed_out);
  lua_KContext ctx = (lua_KContext)lua_tointeger(L, -2);
  lua_KFunction k;
  *(void **)&k = lua_touserdata(L, -3);
  lua_pop(L, 3);
  lua_pushinteger(L, revents);
  return k(L, LUA_YIELD, ctx);
}

int moonlet_wait_fdk(lua_State *L, int fd, int events, double timeout, lua_KContext ctx,
                     lua_KFunction k) {
  static const struct wait_kind kind = {.name = "a descriptor",
                                        .step = continue_step,
                                        .external = true,
                                        .enter = io_enter,
                                        .leave = io_leave};
  struct hub *hub = hub_of(L);
  struct greenlet *g = hub_parking(hub, L);
  struct link *ring = prepare(L, g ? g : hub_pinning(hub, L), fd, events);
  luaL_checkstack(L, 8, NULL);
  if (timeout == 0) {
    lua_pushinteger(L, io_poll(fd, events));
    return k(L, LUA_OK, ctx);
  }
  lua_pushlightuserdata(L, *(void **)&k);
  lua_pushinteger(L, ctx);
  lua_pushinteger(L, fd);
  return wait_in(L, ring, timeout < 0 ? NO_LIMIT : timeout, &kind);
}
