/*
 * file.h: files whose operations block only their greenlet.
 *
 * Pipes, terminals, FIFOs and sockets are waited for in the hub.  A descriptor made for us alone
 * is non-blocking; of another one, whose open file other processes may share, the flag is left
 * alone: poll() is asked first, and then no more is read or written than there is.
 *
 * Regular files are read and written by threads.  What a thread does is an `operation` of the
 * file, not of the greenlet that began it: one at a time, which has memory of its own.  A greenlet
 * that is killed leaves it behind, and whoever uses the file next takes over its outcome, so that
 * nothing read is lost and nothing is written by halves.
 */
#ifndef MOONLET_FILE_H
#define MOONLET_FILE_H

#include "buffer.h"
#include "hub.h"
#include "task.h"

#define FILE_CHUNK 65536 /* bytes read at a time */

/* What may come of an attempt besides success (0) and an errno. */
enum { FILE_WAIT = -1, FILE_END = -2 };

enum file_buffering { BUFFER_NONE, BUFFER_LINE, BUFFER_FULL };

/* Work on a regular file, done in a thread. */
struct operation {
  struct task task;
  int fd;
  bool writes;
  pid_t process;      /* in which the thread is */
  struct buffer data; /* to be written; or what was read */
  int failure;        /* errno */
  bool done;
  bool closes; /* the file was closed meanwhile: write `rest`, close the descriptor */
  struct buffer rest;
};

enum file_side { SIDE_READ, SIDE_WRITE };

/* Greenlets that wait to read, or to write, and what tells them. */
struct side {
  struct file *file;
  struct link ring;
  struct waiter waiter; /* in the descriptor's ring, or the operation's, while they wait */
  struct link *joined;  /* that ring */
  int count;
};

struct file {
  struct class_object object;
  struct hub *hub;
  int fd;                      /* -1: closed */
  bool regular;                /* operations go through threads */
  bool polls;                  /* ask poll() first: reading or writing could block, or end early */
  bool writable;               /* as the descriptor was opened */
  bool standard;               /* the process's own: it is never closed */
  enum file_buffering buffers; /* what is written */
  size_t limit;                /* of that buffer */
  double timeout;              /* of each operation */
  struct buffer in, out;
  size_t taken;   /* bytes of `in` that the formats done so far of a read will use up */
  size_t scanned; /* bytes after those that hold no end of a line */
  int failure;    /* errno of something written behind, to be told */
  struct operation *operation;
  struct link *ring; /* of the descriptor, while somebody waits */
  struct side sides[2];
  struct link dirty; /* among all with unwritten output, for exit and fork */
};

extern const struct class_kind file_kind;

/* Pushes a file over a descriptor.  `own`: it is non-blocking and shared with nobody. */
struct file *file_new(lua_State *L, int fd, bool own);
void file_attach(lua_State *L, struct file *file, int fd, bool own);

/* The open file at argument 1, else an error. */
struct file *file_check(lua_State *L);

/* nil, message, errno; nil, "closed"; nil, "timeout". */
int file_failed(lua_State *L, int failure);
int file_word(lua_State *L, const char *word);

/* For a wait_kind, on the sides' rings. */
void file_enter(struct link *ring);
void file_leave(struct link *ring);
#define FILE_WAITS .external = true, .enter = file_enter, .leave = file_leave

/* Wakes all who wait for the operation of a regular file. */
void file_tell(struct file *file);

/* Waits on a side for the time limit of the file: return file_wait(...). */
int file_wait(lua_State *L, struct file *file, enum file_side side, const struct wait_kind *kind);

/* Closes without waiting: what is not written yet is written by the thread that still works on
   the file, or here and now as far as that does not block. */
void file_shut(struct file *file);

/* One attempt to get more into `in`, at least `wanted` bytes if it is up to us: 0, FILE_WAIT,
   FILE_END or an errno. */
int file_fill(struct file *file, size_t wanted);

/* One attempt to get `out` written, with all that is under way: 0, FILE_WAIT or an errno. */
int file_drain(struct file *file);

/*
 * One write to a descriptor that is waited for, of which *count bytes go out: 0, FILE_WAIT or an
 * errno.  Where the descriptor blocks, poll() promises room for PIPE_BUF bytes and no more.
 */
int file_write_once(int fd, bool polls, const char *data, size_t size, size_t *count);

/* Before writing or seeking: gives back what was read ahead: 0, FILE_WAIT or an errno. */
int file_unread(struct file *file);

/* After a change in `out`: whether it must be written at exit. */
void file_note_dirty(struct file *file);

/* Writes out all buffers, holding up everybody: at exit, and before a fork. */
void file_flush_all(void);

/* The operation under way (operation.c): starts one, 0 or an errno; takes over the outcome of one,
   FILE_WAIT while there is none; hands it the descriptor to be closed. */
int operation_start(struct file *file, bool writes, size_t size);
int operation_settle(struct file *file);
void operation_hand_over(struct file *file);

/* Writes all of it, blocking: 0 or an errno. */
int write_whole(int fd, struct buffer *data);

/* Methods (read.c, write.c). */
int file_read(lua_State *L);
int file_lines(lua_State *L);
int file_write(lua_State *L);
int file_flush(lua_State *L);

#endif
