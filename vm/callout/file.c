/*
 * file.c: read, write and their kin, for descriptors of any kind.
 *
 * What a descriptor is, is found out by trying: a socket, something that takes RWF_NOWAIT, or
 * something that has to be asked with poll first.  What was found is remembered by number, but
 * only as a hint where to begin: each of the tries ends without blocking whatever the descriptor
 * may be now.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "send.h"

enum kind { SOCKET, NOWAIT, POLLED };

#define HINTS 1024

static bool no_sockets[HINTS];

static enum kind first_kind(int fd) {
  return fd >= 0 && fd < HINTS && no_sockets[fd] ? NOWAIT : SOCKET;
}

static enum kind no_socket(int fd) {
  if (fd >= 0 && fd < HINTS)
    no_sockets[fd] = true;
  return NOWAIT;
}

/* A flag that this kind of file does not have. */
static bool is_unknown_flag(int error) {
  return error == EOPNOTSUPP || error == ENOSYS || error == EINVAL || error == ESPIPE;
}

static bool is_ready(int fd, short events) {
  struct pollfd polled = {.fd = fd, .events = events};
  return poll(&polled, 1, 0) != 0;
}

/* ---- input ---- */

/* One try, which fails with EAGAIN if it would block. */
static ssize_t try_read(int fd, const struct iovec *pieces, int count, enum kind kind) {
  struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = (size_t)count};
  if (kind == SOCKET)
    return count == 1 ? recv(fd, pieces->iov_base, pieces->iov_len, MSG_DONTWAIT)
                      : recvmsg(fd, &message, MSG_DONTWAIT);
  if (kind == NOWAIT) {
    ssize_t got = preadv2(fd, pieces, count, -1, RWF_NOWAIT);
    if (got >= 0 || errno != EAGAIN)
      return got;
  }
  if (is_ready(fd, POLLIN)) /* a file on a disk always is */
    return readv(fd, pieces, count);
  errno = EAGAIN;
  return -1;
}

static ssize_t read_pieces(struct callout *call, const struct iovec *pieces, int count) {
  enum kind kind = first_kind(call->fd);
  callout_tick(call->hub);
  for (;;) {
    ssize_t got = try_read(call->fd, pieces, count, kind);
    if (got < 0 && kind == SOCKET && errno == ENOTSOCK) {
      kind = no_socket(call->fd);
      continue;
    }
    if (got < 0 && kind == NOWAIT && is_unknown_flag(errno)) {
      kind = POLLED;
      continue;
    }
    if (got >= 0 || errno != EAGAIN)
      return got;
    enum callout_end end = callout_wait_fd(call);
    if (end != CALLOUT_AGAIN)
      return end == CALLOUT_REFUSED ? readv(call->fd, pieces, count) : -1;
  }
}

static ssize_t callout_readv(int fd, const struct iovec *pieces, int count) {
  struct callout call = callout_for("read", fd, EV_READ, SO_RCVTIMEO);
  if (!call.hub || count <= 0 || count > IOV_MAX)
    return readv(fd, pieces, count);
  return read_pieces(&call, pieces, count);
}

static ssize_t callout_read(int fd, void *buffer, size_t size) {
  struct callout call = callout_for("read", fd, EV_READ, SO_RCVTIMEO);
  struct iovec piece = {buffer, size};
  if (!call.hub || size == 0)
    return read(fd, buffer, size);
  return read_pieces(&call, &piece, 1);
}

CALLOUT_REAL(__read_chk);
static ssize_t callout_read_chk(int fd, void *buffer, size_t size, size_t room) {
  if (size > room)
    callout_overflow();
  return callout_read(fd, buffer, size);
}

/* ---- output: where the descriptor blocks, all is written ---- */

static bool is_on_disk(int fd) {
  struct stat about;
  return fstat(fd, &about) == 0 && (S_ISREG(about.st_mode) || S_ISBLK(about.st_mode));
}

/* What is ready for output takes so much, if not more. */
static ssize_t write_some(int fd, const struct iovec *pieces, int count) {
  while (count > 1 && pieces->iov_len == 0)
    pieces++, count--;
  return write(fd, pieces->iov_base, pieces->iov_len < PIPE_BUF ? pieces->iov_len : PIPE_BUF);
}

/* One try, which fails with EAGAIN if it would block. */
static ssize_t try_write(int fd, const struct iovec *pieces, int count, enum kind kind) {
  if (kind == NOWAIT) {
    ssize_t written = pwritev2(fd, pieces, count, -1, RWF_NOWAIT);
    if (written >= 0 || errno != EAGAIN)
      return written;
  }
  if (is_on_disk(fd))
    return writev(fd, pieces, count);
  if (is_ready(fd, POLLOUT))
    return write_some(fd, pieces, count);
  errno = EAGAIN;
  return -1;
}

/* `pieces` are consumed.  Returns how much of `size` was written, or -1. */
static ssize_t write_pieces(struct callout *call, struct iovec *pieces, int count, size_t size) {
  enum kind kind = NOWAIT;
  size_t done = 0;
  for (;;) {
    ssize_t written = try_write(call->fd, pieces, count, kind);
    if (written < 0 && kind == NOWAIT && is_unknown_flag(errno)) {
      kind = POLLED;
      continue;
    }
    if (written >= 0) {
      done += (size_t)written;
      if (written == 0 || done >= size)
        return (ssize_t)done;
      size_t skipped = pieces_skip(pieces, (size_t)count, (size_t)written);
      pieces += skipped;
      count -= (int)skipped;
      continue;
    }
    enum callout_end end = errno == EAGAIN ? callout_wait_fd(call) : CALLOUT_FAILED;
    if (end == CALLOUT_REFUSED)
      written = writev(call->fd, pieces, count);
    if (end != CALLOUT_AGAIN)
      return written > 0 ? (ssize_t)done + written : done ? (ssize_t)done : written;
  }
}

static ssize_t write_anywhere(struct callout *call, const struct iovec *pieces, int count) {
  struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = (size_t)count};
  callout_tick(call->hub);
  if (first_kind(call->fd) == SOCKET) {
    ssize_t sent = callout_send_message(call, &message, 0);
    if (sent >= 0 || errno != ENOTSOCK)
      return sent;
    no_socket(call->fd);
  }
  struct iovec few[8], *copy = few;
  if (count > 8 && !(copy = malloc((size_t)count * sizeof *copy)))
    return writev(call->fd, pieces, count);
  memcpy(copy, pieces, (size_t)count * sizeof *copy);
  ssize_t written = write_pieces(call, copy, count, pieces_size(pieces, (size_t)count));
  int error = errno;
  if (copy != few)
    free(copy);
  errno = error;
  return written;
}

static ssize_t callout_writev(int fd, const struct iovec *pieces, int count) {
  struct callout call = callout_for("write", fd, EV_WRITE, SO_SNDTIMEO);
  if (!call.hub || count <= 0 || count > IOV_MAX)
    return writev(fd, pieces, count);
  return write_anywhere(&call, pieces, count);
}

static ssize_t callout_write(int fd, const void *data, size_t size) {
  struct callout call = callout_for("write", fd, EV_WRITE, SO_SNDTIMEO);
  struct iovec piece = {(void *)data, size};
  if (!call.hub || size == 0)
    return write(fd, data, size);
  return write_anywhere(&call, &piece, 1);
}

const struct callout_name callout_file_names[] = {
    CALLOUT(read),  CALLOUT(readv),  CALLOUT_HIDDEN(__read_chk, read_chk),
    CALLOUT(write), CALLOUT(writev), CALLOUT_END};
