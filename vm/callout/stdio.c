/*
 * stdio.c: input of FILEs.
 *
 * What is in a file's buffer is taken from there.  When it is empty, the wait for more is outside
 * of the file's lock; then the C library fills the buffer, which does not block.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "callout.h"

#ifdef __GLIBC__

static size_t buffered(const FILE *file) {
  return file->_IO_read_ptr < file->_IO_read_end ? (size_t)(file->_IO_read_end - file->_IO_read_ptr)
                                                 : 0;
}

static bool buffer_has(const FILE *file, int c) {
  return buffered(file) && memchr(file->_IO_read_ptr, c, buffered(file));
}

/* Whether input from there may have to be waited for at all. */
static bool may_block(FILE *file) {
  struct stat about;
  int fd = fileno(file);
  return fd >= 0 && !feof_unlocked(file) && fstat(fd, &about) == 0 && !S_ISREG(about.st_mode) &&
         !S_ISBLK(about.st_mode);
}

/* Waits until there is input, or its end; false: it fails as if it could not be read. */
static bool await_input(struct callout *call, FILE *file) {
  struct pollfd polled = {.fd = call->fd, .events = POLLIN};
  while (buffered(file) == 0 && poll(&polled, 1, 0) == 0) {
    enum callout_end end = callout_wait_fd(call);
    if (end == CALLOUT_FAILED && errno != EAGAIN) {
      file->_flags |= _IO_ERR_SEEN;
      return false;
    }
    if (end != CALLOUT_AGAIN)
      return true; /* the C library sees to it */
  }
  return true;
}

static struct callout call_for(const char *name, FILE *file) {
  return callout_for(name, fileno(file), EV_READ, SO_RCVTIMEO);
}

/* A character, or EOF. */
static int next(struct callout *call, FILE *file) {
  return await_input(call, file) ? getc(file) : EOF;
}

/* ---- characters ---- */

static bool is_direct(FILE *file) {
  return !callout_hub() || buffered(file) > 0 || !may_block(file);
}

static int callout_getc(FILE *file) {
  if (is_direct(file))
    return getc(file);
  struct callout call = call_for("getc", file);
  return next(&call, file);
}

static int callout_getchar(void) { return callout_getc(stdin); }

/* What the macro getc_unlocked calls when the buffer is empty. */
CALLOUT_REAL(__uflow);
static int callout_uflow(FILE *file) {
  int (*real)(FILE *) = (int (*)(FILE *))real___uflow;
  if (is_direct(file))
    return real(file);
  struct callout call = call_for("getc", file);
  return await_input(&call, file) ? real(file) : EOF;
}

/* ---- lines ---- */

static char *callout_fgets(char *line, int size, FILE *file) {
  if (!callout_hub() || size <= 1 || buffered(file) >= (size_t)size - 1 || buffer_has(file, '\n') ||
      !may_block(file))
    return fgets(line, size, file);
  struct callout call = call_for("fgets", file);
  int length = 0, c = 0;
  while (length < size - 1 && c != '\n' && (c = next(&call, file)) != EOF)
    line[length++] = (char)c;
  if (length == 0 || (c == EOF && ferror(file)))
    return NULL;
  line[length] = 0;
  return line;
}

CALLOUT_REAL(__fgets_chk);
static char *callout_fgets_chk(char *line, size_t room, int size, FILE *file) {
  if (size > 0 && (size_t)size > room)
    callout_overflow();
  return callout_fgets(line, size, file);
}

/* Has room for so much in a line that malloc made. */
static bool has_room(char **line, size_t *room, size_t size) {
  if (*line && *room >= size)
    return true;
  size_t wanted = size < 120 ? 120 : size * 2;
  char *larger = realloc(*line, wanted);
  if (!larger)
    return false;
  *line = larger;
  *room = wanted;
  return true;
}

CALLOUT_REAL(__getdelim);
static ssize_t callout_getdelim(char **line, size_t *room, int end, FILE *file) {
  if (!line || !room || !callout_hub() || buffer_has(file, end) || !may_block(file))
    return getdelim(line, room, end, file);
  struct callout call = call_for("getline", file);
  size_t length = 0;
  int c = EOF + 1;
  while ((length == 0 || c != end) && (c = next(&call, file)) != EOF) {
    if (!has_room(line, room, length + 2))
      return -1;
    (*line)[length++] = (char)c;
  }
  if (length == 0)
    return -1;
  (*line)[length] = 0;
  return (ssize_t)length;
}

static ssize_t callout_getline(char **line, size_t *room, FILE *file) {
  return callout_getdelim(line, room, '\n', file);
}

/* ---- blocks ---- */

static size_t callout_fread(void *data, size_t size, size_t count, FILE *file) {
  size_t wanted, done = 0;
  if (__builtin_mul_overflow(size, count, &wanted) || wanted == 0 || !callout_hub() ||
      buffered(file) >= wanted || !may_block(file))
    return fread(data, size, count, file);
  struct callout call = call_for("fread", file);
  while (done < wanted && await_input(&call, file)) {
    size_t ready = buffered(file), rest = wanted - done;
    char *place = (char *)data + done;
    size_t got = fread(place, 1, ready == 0 ? 1 : ready < rest ? ready : rest, file);
    if (got == 0)
      break;
    done += got;
  }
  return done / size;
}

CALLOUT_REAL(__fread_chk);
static size_t callout_fread_chk(void *data, size_t room, size_t size, size_t count, FILE *file) {
  if (size && count > room / size)
    callout_overflow();
  return callout_fread(data, size, count, file);
}

/* ---- fields: only the first piece of input is waited for ---- */

CALLOUT_REAL(__isoc99_vfscanf);
static int callout_vfscanf(FILE *file, const char *format, va_list list) {
  struct callout call = call_for("fscanf", file);
  if (!is_direct(file) && !await_input(&call, file))
    return EOF;
  return vfscanf(file, format, list);
}

CALLOUT_REAL(__isoc99_fscanf);
static int callout_fscanf(FILE *file, const char *format, ...) {
  va_list list;
  va_start(list, format);
  int found = callout_vfscanf(file, format, list);
  va_end(list);
  return found;
}

CALLOUT_REAL(_IO_getc);

const struct callout_name callout_stdio_names[] = {
    CALLOUT(getc),
    {"fgetc", (void *)callout_getc, (void *)fgetc, false, NULL},
    CALLOUT_HIDDEN(_IO_getc, getc),
    CALLOUT(getchar),
    CALLOUT_HIDDEN(__uflow, uflow),
    CALLOUT(fgets),
    CALLOUT_HIDDEN(__fgets_chk, fgets_chk),
    CALLOUT(getline),
    CALLOUT(getdelim),
    CALLOUT_HIDDEN(__getdelim, getdelim),
    CALLOUT(fread),
    CALLOUT_HIDDEN(__fread_chk, fread_chk),
    CALLOUT_HIDDEN(__isoc99_fscanf, fscanf),
    CALLOUT_HIDDEN(__isoc99_vfscanf, vfscanf),
    CALLOUT_END};

#else

const struct callout_name callout_stdio_names[] = {CALLOUT_END};

#endif
