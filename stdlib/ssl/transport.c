/*
 * transport.c: TLS as a stream's transport.
 *
 * What OpenSSL could not write at once it has encrypted already, and it must be called again with
 * the same bytes.  A greenlet may be killed meanwhile, and another send something else; so a copy
 * of these bytes is held until they are gone, and goes first.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls.h"

enum { RECORD = 16384 }; /* what OpenSSL encrypts at a time, at most */

static struct tls *of_transport(struct transport *transport) { return (struct tls *)transport; }

/* ---- failures ---- */

/* The message is that of the format, or the former if there is no memory for it. */
__attribute__((format(printf, 2, 3))) static int fail(struct tls *tls, const char *format, ...) {
  va_list args;
  char *message;
  va_start(args, format);
  if (vasprintf(&message, format, args) >= 0) {
    free(tls->message);
    tls->message = message;
  }
  va_end(args);
  tls->failed = true;
  return TRANSPORT_FAILED;
}

/* The peer does not speak TLS at all, or not to a server of it. */
static const char *comment(int reason) {
  switch (reason) {
  case SSL_R_HTTP_REQUEST:
  case SSL_R_HTTPS_PROXY_REQUEST:
    return "the peer speaks plain HTTP: ";
  case SSL_R_WRONG_VERSION_NUMBER:
    return "the peer does not speak TLS: ";
  default:
    return "";
  }
}

/* Without the protocol that OpenSSL thinks it is of: "tlsv1 alert unknown ca". */
static const char *text_of_alert(const char *text) {
  const char *space = strchr(text, ' ');
  text = space ? space + 1 : text;
  return strncmp(text, "alert ", 6) == 0 ? text + 6 : text;
}

static int fail_by_queue(struct tls *tls) {
  char buffer[256];
  unsigned long code = ERR_peek_error();
  int reason = ERR_SYSTEM_ERROR(code) ? 0 : ERR_GET_REASON(code);
  const char *text = errors_take(buffer, sizeof buffer);
  if (tls->raised)
    return fail(tls, "error in a callback: %s", callbacks_error(tls));
  if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && tls->problem)
    return fail(tls, "%s: %s", text, tls->problem);
  if (reason > SSL_AD_REASON_OFFSET)
    return fail(tls, "the peer's alert: %s", text_of_alert(text));
  return fail(tls, "%s%s", comment(reason), text);
}

static int fail_by_system(struct tls *tls, int error) {
  char buffer[128];
  if (tls->ended || error == 0 || error == EPIPE || error == ECONNRESET)
    return TRANSPORT_CUT;
  return fail(tls, "%s", strerror_r(error, buffer, sizeof buffer));
}

/* Whether nothing may be done; there is a message then. */
static bool is_out_of_use(struct tls *tls) {
  if (tls->asking) {
    fail(tls, "used by another greenlet amid its handshake");
  } else if (tls->context->needs_name && !tls->name) {
    fail(tls, "no name to verify the peer's certificate by: give params.servername, "
              "or conn:sni(name), or params.verify");
  }
  return tls->failed;
}

/* To be called right before an operation, so that its errors are its own. */
static void begin(void) {
  ERR_clear_error();
  errno = 0;
}

/* What an operation that returned `result` (0 or less) has come to. */
static int outcome(struct tls *tls, int result) {
  int error = errno;
  switch (SSL_get_error(tls->ssl, result)) {
  case SSL_ERROR_WANT_READ:
    return TRANSPORT_WANT_READ;
  case SSL_ERROR_WANT_WRITE:
    return TRANSPORT_WANT_WRITE;
  case SSL_ERROR_ZERO_RETURN:
    return TRANSPORT_END;
  case SSL_ERROR_SYSCALL:
    return fail_by_system(tls, error);
  default:
    if (tls->ended && ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
      return fail_by_system(tls, error);
    return fail_by_queue(tls);
  }
}

/* ---- reading and writing ---- */

static ssize_t tls_read(struct transport *transport, char *data, size_t size) {
  struct tls *tls = of_transport(transport);
  size_t moved;
  if (is_out_of_use(tls))
    return TRANSPORT_FAILED;
  begin();
  int result = SSL_read_ex(tls->ssl, data, size, &moved);
  return result > 0 ? (ssize_t)moved : outcome(tls, result);
}

static ssize_t encrypt(struct tls *tls, const char *data, size_t size) {
  size_t moved;
  if (is_out_of_use(tls))
    return TRANSPORT_FAILED;
  begin();
  int result = SSL_write_ex(tls->ssl, data, size, &moved);
  if (result > 0)
    return (ssize_t)moved;
  int what = outcome(tls, result);
  return what == TRANSPORT_END ? TRANSPORT_CUT : what;
}

/* Keeps what could not be written; failing that, the connection is of no use any more. */
static int hold(struct tls *tls, const char *data, size_t size, int wanted) {
  tls->held_size = size < RECORD ? size : RECORD;
  tls->held = malloc(tls->held_size);
  if (!tls->held)
    return fail(tls, "not enough memory");
  memcpy(tls->held, data, tls->held_size);
  return wanted;
}

/* Writes what is held; returns how much of it went, the rest is held on. */
static ssize_t write_held(struct tls *tls) {
  ssize_t moved = encrypt(tls, tls->held, tls->held_size);
  if (moved <= 0)
    return moved;
  tls->held_size -= (size_t)moved;
  if (tls->held_size > 0) {
    memmove(tls->held, tls->held + moved, tls->held_size);
  } else {
    free(tls->held);
    tls->held = NULL;
  }
  return moved;
}

static ssize_t tls_write(struct transport *transport, const char *data, size_t size) {
  struct tls *tls = of_transport(transport);
  while (tls->held) {
    bool again = size >= tls->held_size && memcmp(data, tls->held, tls->held_size) == 0;
    ssize_t moved = write_held(tls);
    if (moved <= 0 || again)
      return moved;
  }
  ssize_t moved = encrypt(tls, data, size);
  if (moved == TRANSPORT_WANT_READ || moved == TRANSPORT_WANT_WRITE)
    return hold(tls, data, size, (int)moved);
  return moved;
}

/* ---- beginning and end ---- */

static int tls_handshake(struct transport *transport) {
  struct tls *tls = of_transport(transport);
  if (is_out_of_use(tls))
    return TRANSPORT_FAILED;
  begin();
  int result = SSL_do_handshake(tls->ssl);
  if (result > 0)
    return 1;
  int what = outcome(tls, result);
  return what == TRANSPORT_END ? TRANSPORT_CUT : what;
}

static int tls_farewell(struct transport *transport) {
  struct tls *tls = of_transport(transport);
  if (tls->failed || !SSL_is_init_finished(tls->ssl))
    return 1;
  while (tls->held) {
    ssize_t moved = write_held(tls);
    if (moved <= 0)
      return (int)moved;
  }
  begin();
  int result = SSL_shutdown(tls->ssl);
  if (result < 0)
    return outcome(tls, result);
  return 1;
}

static bool tls_pending(struct transport *transport) {
  return SSL_pending(of_transport(transport)->ssl) > 0;
}

static const char *tls_message(struct transport *transport) {
  const char *message = of_transport(transport)->message;
  return message ? message : "not enough memory";
}

const struct transport_kind tls_kind = {
    .name = "ssl",
    .read = tls_read,
    .write = tls_write,
    .handshake = tls_handshake,
    .farewell = tls_farewell,
    .pending = tls_pending,
    .message = tls_message,
};
