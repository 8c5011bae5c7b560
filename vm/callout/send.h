/* send.h: output in several pieces, to sockets and elsewhere. */
#ifndef MOONLET_CALLOUT_SEND_H
#define MOONLET_CALLOUT_SEND_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "callout.h"

/* Sends all of it, as sendmsg does to a socket that blocks. */
ssize_t callout_send_message(struct callout *call, const struct msghdr *message, int flags);

size_t pieces_size(const struct iovec *pieces, size_t count);

/* Takes so many bytes from their beginning; returns how many pieces are empty now. */
size_t pieces_skip(struct iovec *pieces, size_t count, size_t size);

#endif
