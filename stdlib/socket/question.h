/*
 * question.h: something asked of a resolver, and the answer.
 *
 * It has memory of its own, since a thread may be at work on it long after its lookup was
 * given up.  Whoever answers it, greenlets wait in the ring of its task's wake-up.
 */
#ifndef MOONLET_QUESTION_H
#define MOONLET_QUESTION_H

#include <netdb.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "task.h"

struct query;

#define QUESTION_NAME_MAX 255 /* bytes in a domain name */

enum question_kind {
  ASK_ADDRESSES, /* getaddrinfo */
  ASK_NAME,      /* getnameinfo */
  ASK_HOST       /* gethostbyname, gethostbyaddr */
};

struct question {
  struct task task;
  enum question_kind kind;
  bool threaded;       /* a thread has it too */
  struct query *query; /* that is to answer it, or has */
  bool awaited;        /* a greenlet waits in the ring */
  bool given_up;       /* to be dropped when that greenlet leaves */

  /* What is asked. */
  char *host, *service;
  struct addrinfo hints;
  struct sockaddr_storage address; /* ASK_NAME, and ASK_HOST without a host */
  socklen_t length;

  /* The answer. */
  int failure; /* EAI_*, 0: none */
  int error;   /* errno, with EAI_SYSTEM */
  struct addrinfo *addresses;
  void (*free_addresses)(struct addrinfo *addresses);
  char name[NI_MAXHOST], port[NI_MAXSERV];
  struct hostent entry;
  char *entry_memory;
};

/* A new question; NULL: out of memory. */
struct question *question_new(enum question_kind kind, const char *host, const char *service);

/* The asker lets go of it; a thread that has it may go on. */
void question_drop(struct question *question);

/* The address that it is about. */
void question_set_address(struct question *question, const void *address, socklen_t length);

/* Answers it with the C library's functions, however long that takes.  Any thread. */
void question_perform(struct question *question);

/* Answers what needs no server: numeric addresses, names that cannot be; with `services` also
   where a service's name is to be found in the system's files.  Whether it did. */
bool question_answer_at_once(struct question *question, bool services);

/* The message for a failure, in LuaSocket's words. */
const char *question_message(const struct question *question);

#endif
