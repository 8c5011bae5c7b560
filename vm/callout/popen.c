/* popen.c: popen, and pclose that waits for the end of its child. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"

struct pipe {
  struct link link;
  FILE *file; /* our end */
  pid_t child;
};

static struct link pipes = {&pipes, &pipes};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Takes it out of the list; NULL: that file is none of ours. */
static struct pipe *take(const FILE *file) {
  struct pipe *found = NULL;
  pthread_mutex_lock(&lock);
  list_each(it, &pipes) {
    struct pipe *pipe = container_of(it, struct pipe, link);
    if (pipe->file == file)
      found = pipe;
  }
  if (found)
    list_remove(&found->link);
  pthread_mutex_unlock(&lock);
  return found;
}

static void put(struct pipe *pipe) {
  pthread_mutex_lock(&lock);
  list_append(&pipes, &pipe->link);
  pthread_mutex_unlock(&lock);
}

/* Starts the command with the other end of a pipe as its descriptor 0 or 1; an errno. */
static int start(struct pipe *pipe, const char *command, bool reading) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0)
    return errno;
  int own = ends[reading ? 0 : 1], other = ends[reading ? 1 : 0];
  int failure = 0;
  if (!(pipe->file = fdopen(own, reading ? "r" : "w")))
    failure = errno;
  else
    failure = callout_start_shell(&pipe->child, command, other, reading ? 1 : 0);
  close(other);
  if (!pipe->file)
    close(own);
  else if (failure)
    fclose(pipe->file);
  return failure;
}

static FILE *callout_popen(const char *command, const char *mode) {
  bool reading = strchr(mode, 'r') != NULL;
  if (!callout_hub() || reading == (strchr(mode, 'w') != NULL))
    return popen(command, mode);
  struct pipe *pipe = calloc(1, sizeof *pipe);
  if (!pipe)
    return NULL;
  int failure = start(pipe, command, reading);
  if (failure) {
    free(pipe);
    errno = failure;
    return NULL;
  }
  put(pipe);
  return pipe->file;
}

static int close_pipe(struct pipe *pipe) {
  pid_t child = pipe->child;
  int status;
  callout_forget_fd(fileno(pipe->file));
  fclose(pipe->file);
  free(pipe);
  return callout_reap("pclose", child, &status) == -1 ? -1 : status;
}

static int callout_pclose(FILE *file) {
  struct pipe *pipe = take(file);
  return pipe ? close_pipe(pipe) : pclose(file);
}

static int callout_fclose(FILE *file) {
  struct pipe *pipe = take(file);
  if (pipe)
    return close_pipe(pipe);
  callout_forget_fd(fileno(file));
  return fclose(file);
}

const struct callout_name callout_popen_names[] = {CALLOUT(popen), CALLOUT(pclose), CALLOUT(fclose),
                                                   CALLOUT_END};
