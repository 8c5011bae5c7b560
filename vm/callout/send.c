/* send.c: send and its kin.  Where the descriptor blocks, all is sent. */
#define _GNU_SOURCE
#include "send.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>

static ssize_t callout_sendto(int fd, const void *data, size_t size, int flags,
                              const struct sockaddr *to, socklen_t length) {
  struct callout call = callout_for("send", fd, EV_WRITE, SO_SNDTIMEO);
  size_t done = 0;
  if (!call.hub || (flags & MSG_DONTWAIT))
    return sendto(fd, data, size, flags, to, length);
  callout_tick(call.hub);
  for (;;) {
    const char *rest = (const char *)data + done;
    ssize_t sent = sendto(fd, rest, size - done, flags | MSG_DONTWAIT, to, length);
    if (sent >= 0) {
      done += (size_t)sent;
      if (done >= size)
        return (ssize_t)done;
      continue;
    }
    enum callout_end end = errno == EAGAIN ? callout_wait_fd(&call) : CALLOUT_FAILED;
    if (end == CALLOUT_REFUSED)
      sent = sendto(fd, rest, size - done, flags, to, length);
    if (end != CALLOUT_AGAIN)
      return sent > 0 ? (ssize_t)done + sent : done ? (ssize_t)done : sent;
  }
}

static ssize_t callout_send(int fd, const void *data, size_t size, int flags) {
  return callout_sendto(fd, data, size, flags, NULL, 0);
}

/* ---- several pieces ---- */

size_t pieces_size(const struct iovec *pieces, size_t count) {
  size_t size = 0;
  for (size_t i = 0; i < count; i++)
    size += pieces[i].iov_len;
  return size;
}

size_t pieces_skip(struct iovec *pieces, size_t count, size_t size) {
  size_t i = 0;
  for (; i < count && size >= pieces[i].iov_len; i++)
    size -= pieces[i].iov_len;
  if (i < count) {
    pieces[i].iov_base = (char *)pieces[i].iov_base + size;
    pieces[i].iov_len -= size;
  }
  return i;
}

/* What has not been sent, in a copy of the pieces; false: no memory. */
static bool keep_rest(struct msghdr *rest, struct iovec **copy, size_t sent) {
  if (!*copy) {
    size_t size = rest->msg_iovlen * sizeof **copy;
    if (!(*copy = malloc(size)))
      return false;
    memcpy(*copy, rest->msg_iov, size);
    rest->msg_iov = *copy;
    rest->msg_control = NULL; /* goes with the first byte */
    rest->msg_controllen = 0;
  }
  size_t skipped = pieces_skip(rest->msg_iov, rest->msg_iovlen, sent);
  rest->msg_iov += skipped;
  rest->msg_iovlen -= skipped;
  return true;
}

ssize_t callout_send_message(struct callout *call, const struct msghdr *message, int flags) {
  size_t size = pieces_size(message->msg_iov, message->msg_iovlen), done = 0;
  struct msghdr rest = *message;
  struct iovec *copy = NULL;
  ssize_t sent;
  for (;;) {
    sent = sendmsg(call->fd, &rest, flags | MSG_DONTWAIT);
    if (sent < 0) {
      enum callout_end end = errno == EAGAIN ? callout_wait_fd(call) : CALLOUT_FAILED;
      if (end == CALLOUT_AGAIN)
        continue;
      if (end == CALLOUT_REFUSED)
        sent = sendmsg(call->fd, &rest, flags);
      break;
    }
    if (done + (size_t)sent >= size || !keep_rest(&rest, &copy, (size_t)sent))
      break;
    done += (size_t)sent;
  }
  int error = errno;
  free(copy);
  errno = error;
  return sent > 0 ? (ssize_t)done + sent : done ? (ssize_t)done : sent;
}

static ssize_t callout_sendmsg(int fd, const struct msghdr *message, int flags) {
  struct callout call = callout_for("sendmsg", fd, EV_WRITE, SO_SNDTIMEO);
  if (!call.hub || (flags & MSG_DONTWAIT))
    return sendmsg(fd, message, flags);
  callout_tick(call.hub);
  return callout_send_message(&call, message, flags);
}

/* It returns as soon as one is sent, as it does when the next one fails. */
static int callout_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) {
  struct callout call = callout_for("sendmmsg", fd, EV_WRITE, SO_SNDTIMEO);
  if (!call.hub || (flags & MSG_DONTWAIT) || count == 0)
    return sendmmsg(fd, messages, count, flags);
  ssize_t sent = callout_send_message(&call, &messages->msg_hdr, flags);
  if (sent < 0)
    return -1;
  messages->msg_len = (unsigned)sent;
  int more = count > 1 ? sendmmsg(fd, messages + 1, count - 1, flags | MSG_DONTWAIT) : 0;
  return more > 0 ? more + 1 : 1;
}

/* ---- sendfile ---- */

/* Sends without blocking, for which there is no flag: others see it set on the descriptor for no
   longer than that. */
static ssize_t try_sendfile(int to, int from, off_t *place, size_t size) {
  int flags = fcntl(to, F_GETFL);
  if (flags == -1 || (flags & O_NONBLOCK))
    return sendfile(to, from, place, size);
  fcntl(to, F_SETFL, flags | O_NONBLOCK);
  ssize_t sent = sendfile(to, from, place, size);
  int error = errno;
  fcntl(to, F_SETFL, flags);
  errno = error;
  return sent;
}

static ssize_t callout_sendfile(int to, int from, off_t *place, size_t size) {
  struct callout call = callout_for("sendfile", to, EV_WRITE, SO_SNDTIMEO);
  size_t done = 0;
  if (!call.hub)
    return sendfile(to, from, place, size);
  callout_tick(call.hub);
  for (;;) {
    ssize_t sent = try_sendfile(to, from, place, size - done);
    if (sent >= 0) {
      done += (size_t)sent;
      if (sent == 0 || done >= size)
        return (ssize_t)done;
      continue;
    }
    enum callout_end end = errno == EAGAIN ? callout_wait_fd(&call) : CALLOUT_FAILED;
    if (end == CALLOUT_REFUSED)
      sent = sendfile(to, from, place, size - done);
    if (end != CALLOUT_AGAIN)
      return sent > 0 ? (ssize_t)done + sent : done ? (ssize_t)done : sent;
  }
}

CALLOUT_REAL(sendfile64);

const struct callout_name callout_send_names[] = {
    CALLOUT(send),     CALLOUT(sendto),   CALLOUT(sendmsg),
    CALLOUT(sendmmsg), CALLOUT(sendfile), CALLOUT_HIDDEN(sendfile64, sendfile),
    CALLOUT_END};
