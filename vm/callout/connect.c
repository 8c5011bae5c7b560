/* connect.c: connect and accept. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include "callout.h"

/* ---- connect ---- */

/* Connects without blocking; others see the flag for no longer than that. */
static int try_connect(int fd, const struct sockaddr *to, socklen_t length, int flags) {
  fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  int result = connect(fd, to, length), error = errno;
  fcntl(fd, F_SETFL, flags);
  errno = error;
  return result;
}

static int outcome(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
    return -1;
  errno = error;
  return error ? -1 : 0;
}

/* It is under way. */
static int await_connection(struct callout *call) {
  switch (callout_wait_fd(call)) {
  case CALLOUT_AGAIN:
    return outcome(call->fd);
  case CALLOUT_REFUSED: {
    struct pollfd polled = {.fd = call->fd, .events = POLLOUT};
    return poll(&polled, 1, -1) < 0 ? -1 : outcome(call->fd);
  }
  default:
    if (errno == EAGAIN)
      errno = EINPROGRESS;
    return -1;
  }
}

static int callout_connect(int fd, const struct sockaddr *to, socklen_t length) {
  struct callout call = callout_for("connect", fd, EV_WRITE, SO_SNDTIMEO);
  int flags = call.hub ? fcntl(fd, F_GETFL) : -1;
  double pause = 0;
  if (flags == -1 || (flags & O_NONBLOCK))
    return connect(fd, to, length);
  for (;;) {
    int result = try_connect(fd, to, length, flags);
    if (result == 0)
      return 0;
    if (errno == EINPROGRESS || errno == EALREADY)
      return await_connection(&call);
    if (errno != EAGAIN || length < sizeof(sa_family_t) || to->sa_family != AF_UNIX)
      return result;
    enum callout_end end = callout_back_off(call.hub, "connect", &pause); /* too many before us */
    if (end != CALLOUT_AGAIN)
      return end == CALLOUT_REFUSED ? connect(fd, to, length) : -1;
  }
}

/* ---- accept ---- */

static int try_accept(int fd, struct sockaddr *from, socklen_t *length, int flags) {
  struct pollfd polled = {.fd = fd, .events = POLLIN};
  if (poll(&polled, 1, 0) != 0)
    return accept4(fd, from, length, flags);
  errno = EAGAIN;
  return -1;
}

static int callout_accept4(int fd, struct sockaddr *from, socklen_t *length, int flags) {
  struct callout call = callout_for("accept", fd, EV_READ, SO_RCVTIMEO);
  if (!call.hub)
    return accept4(fd, from, length, flags);
  callout_tick(call.hub);
  for (;;) {
    int result = try_accept(fd, from, length, flags);
    if (result >= 0 || errno != EAGAIN)
      return result;
    enum callout_end end = callout_wait_fd(&call);
    if (end != CALLOUT_AGAIN)
      return end == CALLOUT_REFUSED ? accept4(fd, from, length, flags) : -1;
  }
}

static int callout_accept(int fd, struct sockaddr *from, socklen_t *length) {
  return callout_accept4(fd, from, length, 0);
}

const struct callout_name callout_connect_names[] = {CALLOUT(connect), CALLOUT(accept),
                                                     CALLOUT(accept4), CALLOUT_END};
