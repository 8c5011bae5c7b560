/*
 * bio.c: an SSL object's way to the descriptor.
 *
 * OpenSSL's own would let a peer that is gone kill the process by SIGPIPE.
 */
#include <errno.h>
#include <openssl/bio.h>
#include <pthread.h>
#include <sys/socket.h>

#include "tls.h"

/* What is still to come when the kernel says "not now"; else how many bytes moved. */
static int outcome(BIO *bio, ssize_t moved, void (*set_retry)(BIO *)) {
  if (moved < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
    set_retry(bio);
  return (int)moved;
}

static void retry_read(BIO *bio) { BIO_set_retry_read(bio); }

static void retry_write(BIO *bio) { BIO_set_retry_write(bio); }

static int read_descriptor(BIO *bio, char *data, int size) {
  struct tls *tls = BIO_get_data(bio);
  ssize_t moved;
  BIO_clear_retry_flags(bio);
  do
    moved = recv(tls->transport.fd, data, (size_t)size, 0);
  while (moved < 0 && errno == EINTR);
  if (moved == 0 && size > 0)
    tls->ended = true;
  return outcome(bio, moved, retry_read);
}

static int write_descriptor(BIO *bio, const char *data, int size) {
  struct tls *tls = BIO_get_data(bio);
  ssize_t moved;
  BIO_clear_retry_flags(bio);
  do
    moved = send(tls->transport.fd, data, (size_t)size, MSG_NOSIGNAL);
  while (moved < 0 && errno == EINTR);
  return outcome(bio, moved, retry_write);
}

static long control(BIO *bio, int command, long number, void *pointer) {
  (void)number;
  (void)pointer;
  const struct tls *tls = BIO_get_data(bio);
  switch (command) {
  case BIO_CTRL_FLUSH:
    return 1;
  case BIO_CTRL_EOF:
    return tls->ended;
  default:
    return 0;
  }
}

static BIO_METHOD *method;

static void make_method(void) {
  method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "moonlet");
  if (method) {
    BIO_meth_set_read(method, read_descriptor);
    BIO_meth_set_write(method, write_descriptor);
    BIO_meth_set_ctrl(method, control);
  }
}

BIO *tls_new_bio(struct tls *tls) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, make_method);
  BIO *bio = method ? BIO_new(method) : NULL;
  if (bio) {
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
  }
  return bio;
}
