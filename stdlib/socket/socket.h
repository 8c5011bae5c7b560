/*
 * socket.h: what all sockets share: a descriptor in the hub, time limits, counters.
 *
 * A blocking method keeps its arguments on the Lua stack and what else it needs in the
 * socket, and does its work in a step (wait.h).  The step tries, and where the kernel has it
 * wait, says for what:
 *
 *     static int accept_step(lua_State *L, bool timed_out) {
 *       struct sock *self = lua_touserdata(L, 1);
 *       if (sock_gone(self)) return sock_fail_with(L, "closed");
 *       int fd = accept4(self->fd, ...);
 *       if (fd < 0 && errno == EAGAIN && timed_out) return sock_fail_with(L, "timeout");
 *       if (fd < 0 && errno == EAGAIN) return sock_again(self, EV_READ, self->read_due);
 *       ...
 *     }
 *     static int l_accept(lua_State *L) {
 *       struct sock *self = class_check(L, 1, &tcp_kind);
 *       return sock_read(L, self, &accept_kind);
 *     }
 *
 * One greenlet at a time may read, and one write.  Whoever waits when the socket is closed
 * gets nil, "closed".
 */
#ifndef MOONLET_SOCKET_H
#define MOONLET_SOCKET_H

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "hub.h"
#include "io.h"

enum sock_role { SOCK_MASTER, SOCK_CLIENT, SOCK_SERVER };

struct sock {
  struct class_object object;
  int fd;         /* -1: none yet, or closed */
  uint8_t family; /* AF_UNSPEC: chosen when it binds or connects */
  uint8_t role;   /* enum sock_role; of a datagram socket SOCK_CLIENT: it has a peer */
  bool closed;    /* for good */
  int accepted;   /* of a server: a connection that has no object yet; -1: none */
  struct hub *hub;
  struct link *ring;          /* of its descriptor */
  double block, total;        /* settimeout: of each wait, of each call; negative: none */
  double read_due, write_due; /* when the total of the call under way is over; negative: never */
  double born;
  uint64_t received, sent; /* bytes */
};

extern const struct class_kind sock_kind, stream_kind, tcp_kind, udp_kind, unix_kind,
    unix_dgram_kind, secure_kind;

/* ---- life ---- */

void sock_init(lua_State *L, void *object);

/* Makes its descriptor, if it has none: 0, or an errno. */
int sock_open(lua_State *L, struct sock *self, int family, int type);

/* A function socket.NAME(): pushes a new socket, or nil and why there is none. */
int sock_make(lua_State *L, const struct class_kind *kind, int family, int type);

/* Takes a descriptor over, which must be non-blocking. */
void sock_adopt(lua_State *L, struct sock *self, int fd, int family);

/* Lets go of the descriptor, whose waiters are woken; returns it (-1: there was none). */
int sock_release(struct hub *hub, struct sock *self);

/* Closes the descriptor only: another may follow. */
void sock_drop(struct sock *self);

/* Undoes sock_open: another may follow, of any family. */
void sock_unopen(struct sock *self);

/* ---- blocking calls ---- */

/* Runs a blocking method's step, and waits in the kind's way if need be.  The kind enters
   the ring by io_enter_reading or io_enter_writing; another greenlet must not be there. */
int sock_read(lua_State *L, struct sock *self, const struct wait_kind *kind);
int sock_write(lua_State *L, struct sock *self, const struct wait_kind *kind);

/* For its first wait, and for a second phase in a step: waits for `events` (EV_READ ...). */
int sock_wait(lua_State *L, struct sock *self, int events, double due,
              const struct wait_kind *kind);

/* For a step: whether the socket was closed, or lost its descriptor, before the call or while it
   waited. */
static inline bool sock_gone(const struct sock *self) {
  return self->fd < 0 || (self->hub->current && self->hub->current->wait.revents == IO_CLOSED);
}

/* What a step returns to wait (again). */
int sock_again(struct sock *self, int events, double due);

/*
 * Waits for nothing but time, where the kernel cannot tell when to try again: at most so many
 * seconds, in the ring, so that nobody else has a turn and closing ends it.  The limit of each
 * wait bounds all pauses of a call together, from the first one on.
 */
int sock_pause(lua_State *L, struct sock *self, double *due, bool first, double seconds,
               const struct wait_kind *kind);

/* The time limit of a wait now, seconds. */
double sock_limit(const struct sock *self, double due);

/* The same while a name is looked up.  Who does not want to wait waits for that, as with
   LuaSocket: another call would begin anew. */
double sock_lookup_limit(const struct sock *self, double due);

/* When a call's total time that begins now is over; negative: never. */
double sock_due(const struct sock *self);

#define SOCK_READING .external = true, .enter = io_enter_reading, .leave = io_leave_reading
#define SOCK_WRITING .external = true, .enter = io_enter_writing, .leave = io_leave_writing

/* ---- results ---- */

/* LuaSocket's word for an errno. */
const char *sock_message(int error);

/* nil, that word, errno; nil and another word. */
int sock_fail(lua_State *L, int error);
int sock_fail_with(lua_State *L, const char *message);

/* ---- the parts ---- */

int sock_setoption(lua_State *L); /* options.c: methods */
int sock_getoption(lua_State *L);
int sock_setfd(lua_State *L); /* socket.c: methods that streams add to */
int sock_gc(lua_State *L);

/* Methods and functions that another file's table lists. */
int tcp_listen(lua_State *L);
int tcp_accept(lua_State *L);
int tcp_accept_into(lua_State *L);
int socket_tcp(lua_State *L);
int socket_tcp4(lua_State *L);
int socket_tcp6(lua_State *L);
int socket_udp(lua_State *L);
int socket_udp4(lua_State *L);
int socket_udp6(lua_State *L);
int socket_unix_stream(lua_State *L);
int socket_unix_dgram(lua_State *L);
int socket_socketpair(lua_State *L);
int socket_upgrade(lua_State *L);

/* address.c: the host and the service at `arg` and after it, which become strings that C can
   read; or a bad argument. */
void address_check(lua_State *L, int arg);

/* A path from an argument, into a sockaddr_un; its length. */
struct sockaddr_un;
socklen_t address_check_path(lua_State *L, int arg, struct sockaddr_un *address);

/* Pushes host, port and family, or a path; the number of values. */
int address_push(lua_State *L, const struct sockaddr *address, socklen_t length);
const char *address_family_name(int family);

/* Of TCP, or of another family. */
struct address {
  union {
    struct sockaddr any;
    struct sockaddr_in inet;
    struct sockaddr_in6 inet6;
    char room[sizeof(struct sockaddr_in6)];
  };
  socklen_t length;
};

/* Pushes host and port, both as strings; "" and "" of another family. */
int address_push_text(lua_State *L, const struct address *address);

#endif
