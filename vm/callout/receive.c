/* receive.c: recv and its kin. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/socket.h>

#include "callout.h"

/* What does not block, or is not data. */
#define DIRECT (MSG_DONTWAIT | MSG_ERRQUEUE)

static bool is_stream(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

/* MSG_WAITALL on a stream: goes on until all has come. */
static bool wants_more(int fd, int flags, size_t rest, ssize_t got) {
  return (flags & MSG_WAITALL) && !(flags & MSG_PEEK) && got > 0 && (size_t)got < rest &&
         is_stream(fd);
}

static ssize_t callout_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *from,
                                socklen_t *length) {
  struct callout call = callout_for("recv", fd, EV_READ, SO_RCVTIMEO);
  size_t done = 0;
  if (!call.hub || (flags & DIRECT))
    return recvfrom(fd, buffer, size, flags, from, length);
  callout_tick(call.hub);
  for (;;) {
    char *place = (char *)buffer + done;
    ssize_t got = recvfrom(fd, place, size - done, flags | MSG_DONTWAIT, from, length);
    if (got >= 0) {
      bool more = wants_more(fd, flags, size - done, got);
      done += (size_t)got;
      if (!more)
        return (ssize_t)done;
      continue;
    }
    enum callout_end end = errno == EAGAIN ? callout_wait_fd(&call) : CALLOUT_FAILED;
    if (end == CALLOUT_REFUSED)
      got = recvfrom(fd, place, size - done, flags, from, length);
    if (end != CALLOUT_AGAIN)
      return got > 0 ? (ssize_t)done + got : done ? (ssize_t)done : got;
  }
}

static ssize_t callout_recv(int fd, void *buffer, size_t size, int flags) {
  return callout_recvfrom(fd, buffer, size, flags, NULL, NULL);
}

CALLOUT_REAL(__recv_chk);
static ssize_t callout_recv_chk(int fd, void *buffer, size_t size, size_t room, int flags) {
  if (size > room)
    callout_overflow();
  return callout_recvfrom(fd, buffer, size, flags, NULL, NULL);
}

CALLOUT_REAL(__recvfrom_chk);
static ssize_t callout_recvfrom_chk(int fd, void *buffer, size_t size, size_t room, int flags,
                                    struct sockaddr *from, socklen_t *length) {
  if (size > room)
    callout_overflow();
  return callout_recvfrom(fd, buffer, size, flags, from, length);
}

/* With MSG_WAITALL, too, it returns what comes first. */
static ssize_t callout_recvmsg(int fd, struct msghdr *message, int flags) {
  struct callout call = callout_for("recvmsg", fd, EV_READ, SO_RCVTIMEO);
  if (!call.hub || (flags & DIRECT))
    return recvmsg(fd, message, flags);
  callout_tick(call.hub);
  for (;;) {
    ssize_t got = recvmsg(fd, message, flags | MSG_DONTWAIT);
    if (got >= 0 || errno != EAGAIN)
      return got;
    enum callout_end end = callout_wait_fd(&call);
    if (end != CALLOUT_AGAIN)
      return end == CALLOUT_REFUSED ? recvmsg(fd, message, flags) : -1;
  }
}

/* It returns as soon as there is a message, as with MSG_WAITFORONE. */
static int callout_recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
                            struct timespec *limit) {
  struct callout call = callout_for("recvmmsg", fd, EV_READ, SO_RCVTIMEO);
  if (!call.hub || (flags & DIRECT))
    return recvmmsg(fd, messages, count, flags, limit);
  callout_tick(call.hub);
  for (;;) {
    int got = recvmmsg(fd, messages, count, flags | MSG_DONTWAIT, NULL);
    if (got >= 0 || errno != EAGAIN)
      return got;
    enum callout_end end = callout_wait_fd(&call);
    if (end != CALLOUT_AGAIN)
      return end == CALLOUT_REFUSED ? recvmmsg(fd, messages, count, flags, limit) : -1;
  }
}

const struct callout_name callout_receive_names[] = {CALLOUT(recv),
                                                     CALLOUT(recvfrom),
                                                     CALLOUT(recvmsg),
                                                     CALLOUT(recvmmsg),
                                                     CALLOUT_HIDDEN(__recv_chk, recv_chk),
                                                     CALLOUT_HIDDEN(__recvfrom_chk, recvfrom_chk),
                                                     CALLOUT_END};
