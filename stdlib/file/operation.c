/* operation.c: reading and writing regular files in threads (see file.h). */
#define _GNU_SOURCE
#include <errno.h>
#include <unistd.h>

#include "file.h"

/* ---- in a thread ---- */

int write_whole(int fd, struct buffer *data) {
  while (buffer_length(data) > 0) {
    ssize_t count = write(fd, data->data + data->start, buffer_length(data));
    if (count >= 0)
      buffer_take(data, (size_t)count);
    else if (errno != EINTR)
      return errno;
  }
  return 0;
}

static int read_once(int fd, struct buffer *data) {
  ssize_t count;
  do
    count = read(fd, data->data, data->capacity);
  while (count < 0 && errno == EINTR);
  if (count < 0)
    return errno;
  data->end = (size_t)count;
  return 0;
}

static void perform(struct task *task) {
  struct operation *op = container_of(task, struct operation, task);
  op->failure = op->writes ? write_whole(op->fd, &op->data) : read_once(op->fd, &op->data);
  op->done = true;
}

/* The last to let go carries out what a closed file has left to do. */
static void dispose(struct task *task) {
  struct operation *op = container_of(task, struct operation, task);
  if (op->closes) {
    if (op->writes && !op->done)
      write_whole(op->fd, &op->data);
    write_whole(op->fd, &op->rest);
    close(op->fd);
  }
  buffer_free(&op->data);
  buffer_free(&op->rest);
  free(op);
}

/* ---- on the greenlets' side ---- */

/* A write gets the file's buffer itself, so that nothing is copied. */
int operation_start(struct file *file, bool writes, size_t size) {
  struct operation *op = calloc(1, sizeof *op);
  if (!op)
    return ENOMEM;
  op->task.work = perform;
  op->task.free = dispose;
  op->task.needed = writes;
  op->fd = file->fd;
  op->writes = writes;
  op->process = getpid();
  int failure = writes || buffer_reserve(&op->data, size) ? 0 : ENOMEM;
  if (writes) {
    op->data = file->out;
    file->out = (struct buffer){0};
  }
  if (!failure)
    failure = task_start(&op->task, file->hub, async_threads(file->hub));
  if (!failure) {
    file->operation = op;
    return 0;
  }
  if (writes)
    file->out = op->data;
  else
    buffer_free(&op->data);
  free(op);
  return failure;
}

/* Puts what was read behind what is there already. */
static int collect(struct file *file, struct operation *op) {
  if (buffer_length(&op->data) == 0)
    return op->failure ? op->failure : FILE_END;
  if (buffer_length(&file->in) > 0)
    return buffer_append(&file->in, op->data.data, op->data.end) ? 0 : ENOMEM;
  struct buffer empty = file->in;
  file->in = op->data;
  op->data = empty;
  return 0;
}

int operation_settle(struct file *file) {
  struct operation *op = file->operation;
  int outcome = 0;
  if (op->process != getpid()) { /* the thread, and its work, are the parent's */
    file->operation = NULL;
    return 0;
  }
  if (!task_ended(&op->task))
    return FILE_WAIT;
  if (!op->writes)
    outcome = collect(file, op);
  else if (op->failure)
    file->failure = op->failure;
  file->operation = NULL;
  file_note_dirty(file);
  file_tell(file);
  task_abandon(&op->task);
  return outcome;
}

void operation_hand_over(struct file *file) {
  struct operation *op = file->operation;
  file->operation = NULL;
  op->fd = file->fd;
  op->rest = file->out;
  op->closes = !file->standard;
  file->out = (struct buffer){0};
  task_abandon(&op->task);
}
