/*
 * select.c: moonlet.select, waiting for several descriptors at once.
 *
 * A selector has one waiter in the ring of each descriptor.  Told, a waiter notes what its
 * descriptor is ready for and wakes the greenlet, which waits in the selector's own ring.
 */
/***
 * @module moonlet.select
 * Waiting for several descriptors at once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "hub.h"
#include "io.h"

#define URGENT 4 /* beside EV_READ and EV_WRITE: looked for, but not waited for */

struct selector;

struct entry {
  struct waiter waiter;
  struct selector *selector;
  struct link *ring; /* of the descriptor; NULL: not waited for */
  int fd;
  uint8_t wanted, found; /* events */
  uint8_t list;          /* the result it belongs in, from 0 */
};

struct selector {
  struct link caller; /* ring: the greenlet that waits */
  struct hub *hub;
  struct pollfd *polled;
  int count;
  struct entry entries[];
};

enum { UV_ELEMENTS = 1 }; /* of a selector: what stood in the caller's lists */

/* ---- making a selector ---- */

/* Pushes a selector with room for so many entries. */
static struct selector *new_selector(lua_State *L, int capacity) {
  size_t size = sizeof(struct selector) + (size_t)capacity * sizeof(struct entry);
  struct selector *selector =
      lua_newuserdatauv(L, size + (size_t)capacity * sizeof(struct pollfd), 1);
  *selector = (struct selector){.hub = hub_of(L)};
  selector->polled = (struct pollfd *)((char *)selector + size);
  list_init(&selector->caller);
  lua_createtable(L, capacity, 0);
  lua_setiuservalue(L, -2, UV_ELEMENTS);
  return selector;
}

/* Whether the object at `index` has input in a buffer, where the kernel does not see it. */
static bool is_dirty(lua_State *L, int index) {
  if (lua_isnumber(L, index) || luaL_testudata(L, index, LUA_FILEHANDLE))
    return false;
  lua_getfield(L, index, "dirty");
  if (lua_isfunction(L, -1)) {
    lua_pushvalue(L, index);
    lua_call(L, 1, 1);
  }
  bool dirty = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return dirty;
}

static void mark(struct waiter *waiter) {
  struct entry *entry = container_of(waiter, struct entry, waiter);
  list_remove(&waiter->link);
  if (waiter->revents != IO_CLOSED)
    entry->found |= (uint8_t)waiter->revents;
  wait_notify(&entry->selector->caller);
}

/* Adds the element on top of the stack (popped) to the selector at `index`. */
static void add(lua_State *L, int index, int fd, int wanted, int list) {
  struct selector *selector = lua_touserdata(L, index);
  struct entry *entry = &selector->entries[selector->count];
  *entry = (struct entry){.waiter = {.notify = mark, .events = (short)(wanted & ~URGENT)},
                          .selector = selector,
                          .fd = fd,
                          .wanted = (uint8_t)wanted,
                          .list = (uint8_t)list};
  if ((wanted & EV_READ) && is_dirty(L, lua_gettop(L)))
    entry->found = EV_READ;
  lua_getiuservalue(L, index, UV_ELEMENTS);
  lua_insert(L, -2);
  lua_rawseti(L, -2, ++selector->count);
  lua_pop(L, 1);
}

/* ---- waiting ---- */

static int to_poll(int events) {
  return (events & EV_READ ? POLLIN : 0) | (events & EV_WRITE ? POLLOUT : 0) |
         (events & URGENT ? POLLPRI : 0);
}

/* An end or an error counts as ready for both directions, as it does for libev. */
static int from_poll(int events) {
  int both = events & (POLLHUP | POLLERR);
  return (both || (events & POLLIN) ? EV_READ : 0) | (both || (events & POLLOUT) ? EV_WRITE : 0) |
         (events & POLLPRI ? URGENT : 0);
}

/* Asks the kernel what is ready now; returns how many entries are. */
static int look(lua_State *L, struct selector *selector) {
  int ready = 0;
  for (int i = 0; i < selector->count; i++)
    selector->polled[i] = (struct pollfd){.fd = selector->entries[i].fd,
                                          .events = (short)to_poll(selector->entries[i].wanted)};
  if (poll(selector->polled, (nfds_t)selector->count, 0) < 0 && errno != EINTR)
    return luaL_error(L, "cannot poll %d descriptors: %s", selector->count, strerror(errno));
  for (int i = 0; i < selector->count; i++) {
    struct entry *entry = &selector->entries[i];
    if (selector->polled[i].revents & POLLNVAL)
      return luaL_error(L, "descriptor %d is not open", entry->fd);
    entry->found |= (uint8_t)(from_poll(selector->polled[i].revents) & entry->wanted);
    ready += entry->found != 0;
  }
  return ready;
}

static void enter(struct link *ring) {
  struct selector *selector = container_of(ring, struct selector, caller);
  for (int i = 0; i < selector->count; i++) {
    struct entry *entry = &selector->entries[i];
    if (entry->ring) {
      waiter_join(selector->hub, entry->ring, &entry->waiter);
      io_enter(entry->ring);
    }
  }
}

static void leave(struct link *ring) {
  struct selector *selector = container_of(ring, struct selector, caller);
  for (int i = 0; i < selector->count; i++) {
    struct entry *entry = &selector->entries[i];
    if (list_linked(&entry->waiter.link))
      list_remove(&entry->waiter.link);
    if (entry->ring)
      io_leave(entry->ring);
  }
}

/* A blocking operation: without descriptors to wait for, nothing but time ends it. */
struct operation {
  struct wait_kind watch, sleep;
};

/*
 * Runs it on the selector at 1, whose stack is its own.  What is ready already is returned
 * after a turn for the others, so that a loop around this call does not keep them waiting.
 */
static int run(lua_State *L, double limit, const struct operation *operation) {
  struct selector *selector = lua_touserdata(L, 1);
  const struct wait_kind *kind = &operation->sleep;
  if (look(L, selector) > 0 || limit <= 0)
    return wait_turn(L, kind);
  for (int i = 0; i < selector->count; i++) {
    struct entry *entry = &selector->entries[i];
    if (entry->waiter.events) {
      entry->ring = io_ring(L, selector->hub, entry->fd);
      kind = &operation->watch;
    }
  }
  return wait_in(L, &selector->caller, limit, kind);
}

/* The selector at 1 when the wait is over; pushes its elements as 2. */
static struct selector *finish(lua_State *L) {
  struct selector *selector = lua_touserdata(L, 1);
  for (int i = 0; i < selector->count; i++)
    if (selector->entries[i].waiter.revents == IO_CLOSED)
      luaL_error(L, "descriptor %d was closed", selector->entries[i].fd);
  lua_settop(L, 1);
  lua_getiuservalue(L, 1, UV_ELEMENTS);
  return selector;
}

/* ---- select ---- */

static int select_step(lua_State *L, bool timed_out) {
  const struct selector *selector = finish(L);
  lua_Integer lengths[3] = {0, 0, 0};
  (void)timed_out;
  for (int list = 0; list < 3; list++)
    lua_newtable(L);
  for (int i = 0; i < selector->count; i++) {
    const struct entry *entry = &selector->entries[i];
    if (entry->found) {
      lua_rawgeti(L, 2, i + 1);
      lua_rawseti(L, 3 + entry->list, ++lengths[entry->list]);
    }
  }
  return 3;
}

static const struct operation select_operation = {
    .watch = {"select", select_step, .external = true, .enter = enter, .leave = leave},
    .sleep = {.name = "select", .step = select_step}};

/* The descriptor of the element on top of the stack; errors blame the list at `arg`. */
static int element_fd(lua_State *L, int arg) {
  lua_pushvalue(L, arg);
  lua_pushvalue(L, -2);
  lua_replace(L, arg);
  int fd = io_checkfd(L, arg);
  lua_replace(L, arg);
  return fd;
}

/* The length of the list at `arg`; nil is an empty one. */
static int list_length(lua_State *L, int arg) {
  if (lua_isnil(L, arg))
    return 0;
  luaL_checktype(L, arg, LUA_TTABLE);
  lua_Integer length = luaL_len(L, arg);
  luaL_argcheck(L, length <= 1 << 20, arg, "list too long");
  return (int)length;
}

/***
 * select.select(rlist, wlist, xlist [, timeout]): waits until a descriptor is ready.
 * Elements are descriptors, Lua's files, or objects with getfd; those with a method dirty that
 * returns true count as readable.  What a file has in its buffer is not seen.
 * @param rlist any[]|nil  to be read
 * @param wlist any[]|nil  to be written
 * @param xlist any[]|nil  with urgent data, looked for at the start only
 * @param timeout? number|Timeout  seconds
 * @return any[] # the elements of rlist that can be read
 * @return any[] # of wlist that can be written
 * @return any[] # of xlist with urgent data; all three are empty at the timeout
 * @raise an error if a descriptor is not open, or is closed meanwhile
 * Source: gevent.select.select, select(2).
 */
static int l_select(lua_State *L) {
  static const int wanted[] = {EV_READ, EV_WRITE, URGENT};
  int lengths[3], capacity = 0;
  lua_settop(L, 4);
  double limit = wait_limit(L, 4);
  for (int list = 0; list < 3; list++)
    capacity += lengths[list] = list_length(L, list + 1);
  new_selector(L, capacity);
  for (int list = 0; list < 3; list++)
    for (int i = 1; i <= lengths[list]; i++) {
      lua_geti(L, list + 1, i);
      add(L, 5, element_fd(L, list + 1), wanted[list], list);
    }
  lua_replace(L, 1);
  lua_settop(L, 1);
  return run(L, limit, &select_operation);
}

/* ---- poll ---- */

struct poll {
  struct class_object object;
  int count; /* objects */
};

/* Its user values, tables made at the first use.  Objects are numbered from 1. */
enum {
  UV_OBJECTS = CLASS_FIELDS + 1, /* number -> object */
  UV_NUMBERS,                    /* object -> number */
  UV_DESCRIPTORS,                /* number -> descriptor * 4 + events */
};

static const struct class_kind poll_kind;

/* The poll at 1; two arguments are kept, and its three tables pushed above them. */
static struct poll *check_poll(lua_State *L) {
  struct poll *self = class_check(L, 1, &poll_kind);
  lua_settop(L, 3);
  for (int value = UV_OBJECTS; value <= UV_DESCRIPTORS; value++)
    if (lua_getiuservalue(L, 1, value) == LUA_TNIL) {
      lua_pop(L, 1);
      lua_newtable(L);
      lua_pushvalue(L, -1);
      lua_setiuservalue(L, 1, value);
    }
  return self;
}

enum { OBJECTS = 4, NUMBERS, DESCRIPTORS };

static int check_events(lua_State *L, int arg) {
  int events = 0;
  for (const char *c = luaL_optstring(L, arg, "rw"); *c; c++) {
    luaL_argcheck(L, *c == 'r' || *c == 'w', arg, "events must be 'r', 'w' or 'rw'");
    events |= *c == 'r' ? EV_READ : EV_WRITE;
  }
  luaL_argcheck(L, events, arg, "events must be 'r', 'w' or 'rw'");
  return events;
}

/* The number of the object at 2, or 0. */
static lua_Integer number_of(lua_State *L) {
  lua_pushvalue(L, 2);
  lua_rawget(L, NUMBERS);
  lua_Integer number = lua_tointeger(L, -1);
  lua_pop(L, 1);
  return number;
}

static lua_Integer check_registered(lua_State *L) {
  lua_Integer number = lua_isnoneornil(L, 2) ? 0 : number_of(L);
  luaL_argcheck(L, number, 2, "not registered");
  return number;
}

static void set_descriptor(lua_State *L, lua_Integer number, lua_Integer fd, int events) {
  lua_pushinteger(L, fd * 4 + events);
  lua_rawseti(L, DESCRIPTORS, number);
}

/* Enters the object at 2 under a number. */
static void set_object(lua_State *L, lua_Integer number) {
  lua_pushvalue(L, 2);
  lua_rawseti(L, OBJECTS, number);
  lua_pushvalue(L, 2);
  lua_pushinteger(L, number);
  lua_rawset(L, NUMBERS);
}

/***
 * poll:register(fd [, events]): from now on watches a descriptor.
 * Again for the same: replaces the events.
 * @param fd any  a descriptor, Lua's file, or an object with getfd
 * @param events? "r"|"w"|"rw"  both if nothing is said
 */
static int l_register(lua_State *L) {
  struct poll *self = check_poll(L);
  int fd = io_checkfd(L, 2), events = check_events(L, 3);
  lua_Integer number = number_of(L);
  if (!number) {
    number = self->count + 1;
    set_object(L, number);
    self->count++;
  }
  set_descriptor(L, number, fd, events);
  return 0;
}

/***
 * poll:modify(fd, events): replaces the events of what is registered.
 * @param fd any
 * @param events "r"|"w"|"rw"
 * @raise an error if it is not registered
 */
static int l_modify(lua_State *L) {
  check_poll(L);
  lua_Integer number = check_registered(L);
  luaL_checkstring(L, 3);
  lua_rawgeti(L, DESCRIPTORS, number);
  set_descriptor(L, number, lua_tointeger(L, -1) / 4, check_events(L, 3));
  return 0;
}

/***
 * poll:unregister(fd): forgets it.
 * @param fd any
 * @raise an error if it is not registered
 */
static int l_unregister(lua_State *L) {
  struct poll *self = check_poll(L);
  lua_Integer number = check_registered(L), last = self->count--;
  lua_pushvalue(L, 2);
  lua_pushnil(L);
  lua_rawset(L, NUMBERS);
  lua_rawgeti(L, OBJECTS, last);
  lua_rawgeti(L, DESCRIPTORS, last);
  if (number != last) {
    lua_pushvalue(L, -2);
    lua_replace(L, 2);
    set_object(L, number);
    lua_pushvalue(L, -1);
    lua_rawseti(L, DESCRIPTORS, number);
  }
  lua_pushnil(L);
  lua_rawseti(L, OBJECTS, last);
  lua_pushnil(L);
  lua_rawseti(L, DESCRIPTORS, last);
  return 0;
}

static int poll_step(lua_State *L, bool timed_out) {
  static const char *const names[] = {NULL, "r", "w", "rw"};
  const struct selector *selector = finish(L);
  lua_Integer length = 0;
  (void)timed_out;
  lua_newtable(L);
  for (int i = 0; i < selector->count; i++) {
    const struct entry *entry = &selector->entries[i];
    if (entry->found) {
      lua_createtable(L, 2, 0);
      lua_rawgeti(L, 2, i + 1);
      lua_rawseti(L, -2, 1);
      lua_pushstring(L, names[entry->found]);
      lua_rawseti(L, -2, 2);
      lua_rawseti(L, -2, ++length);
    }
  }
  return 1;
}

static const struct operation poll_operation = {
    .watch = {"poll:poll", poll_step, .external = true, .enter = enter, .leave = leave},
    .sleep = {.name = "poll:poll", .step = poll_step}};

/***
 * poll:poll([timeout]): waits until something registered is ready.
 * @param timeout? number|Timeout  seconds
 * @return any[][] # of {fd, events}: what was registered and "r", "w" or "rw"; empty at the timeout
 * @raise an error if a descriptor is not open, or is closed meanwhile
 * Source: gevent.select.poll, poll(2).
 * Differs: the timeout is in milliseconds; without one or below 0 it is endless | the timeout is
 *   in seconds; without one it is endless, 0 or less does not wait
 */
static int l_poll(lua_State *L) {
  class_check(L, 1, &poll_kind);
  lua_settop(L, 2);
  double limit = wait_limit(L, 2);
  const struct poll *self = check_poll(L);
  int count = self->count;
  new_selector(L, count);
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, DESCRIPTORS, i);
    lua_Integer packed = lua_tointeger(L, -1);
    lua_rawgeti(L, OBJECTS, i);
    add(L, 7, (int)(packed / 4), (int)(packed % 4), 0);
    lua_pop(L, 1);
  }
  lua_replace(L, 1);
  lua_settop(L, 1);
  return run(L, limit, &poll_operation);
}

static int l_tostring(lua_State *L) {
  const struct poll *self = class_check(L, 1, &poll_kind);
  lua_pushfstring(L, "<poll: %d registered>", self->count);
  return 1;
}

static const luaL_Reg poll_methods[] = {{"register", l_register},     {"modify", l_modify},
                                        {"unregister", l_unregister}, {"poll", l_poll},
                                        {"__tostring", l_tostring},   {NULL, NULL}};

/***
 * @class moonlet.select.poll: Object
 * A set of descriptors to wait for.
 * Differs: events are bits of an integer, such as POLLIN | events are "r", "w" and "rw"
 */

/*** poll(): nothing is registered at first. */
static const struct class_kind poll_kind = {
    .name = "poll", .size = sizeof(struct poll), .values = 3, .methods = poll_methods};

/* ---- the module ---- */

static const luaL_Reg functions[] = {{"select", l_select}, {NULL, NULL}};

MOONLET_API int luaopen_moonlet_select(lua_State *L);

int luaopen_moonlet_select(lua_State *L) {
  luaL_requiref(L, "moonlet", luaopen_moonlet, 0);
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  class_push(L, &poll_kind);
  lua_setfield(L, -2, "poll");
  return 1;
}
