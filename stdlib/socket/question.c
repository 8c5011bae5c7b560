/* question.c: questions answered by the C library (see question.h). */
#define _GNU_SOURCE
#include "question.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "query.h"

static void free_question(struct question *question) {
  if (question->query)
    query_free(question->query);
  if (question->addresses)
    question->free_addresses(question->addresses);
  free(question->entry_memory);
  free(question->host);
  free(question->service);
  free(question);
}

static void free_task(struct task *task) {
  free_question(container_of(task, struct question, task));
}

static void perform_task(struct task *task) {
  question_perform(container_of(task, struct question, task));
}

struct question *question_new(enum question_kind kind, const char *host, const char *service) {
  struct question *question = calloc(1, sizeof *question);
  if (!question)
    return NULL;
  question->kind = kind;
  question->task.work = perform_task;
  question->task.free = free_task;
  question->host = host ? strdup(host) : NULL;
  question->service = service ? strdup(service) : NULL;
  if ((host && !question->host) || (service && !question->service)) {
    free_question(question);
    return NULL;
  }
  return question;
}

void question_drop(struct question *question) {
  if (question->threaded)
    task_abandon(&question->task);
  else
    free_question(question);
}

void question_set_address(struct question *question, const void *address, socklen_t length) {
  memcpy(&question->address, address, length);
  question->length = length;
}

/* ---- answers of the C library ---- */

static void perform_addresses(struct question *question, int more_flags) {
  struct addrinfo hints = question->hints;
  hints.ai_flags |= more_flags;
  question->free_addresses = freeaddrinfo;
  question->failure = getaddrinfo(question->host, question->service, &hints, &question->addresses);
  question->error = errno;
}

static void perform_name(struct question *question) {
  question->failure = getnameinfo((const struct sockaddr *)&question->address, question->length,
                                  question->name, sizeof question->name, question->port,
                                  sizeof question->port, question->hints.ai_flags);
  question->error = errno;
}

/* The resolver's own codes, of before getaddrinfo. */
static int from_h_errno(int code) {
  return code == TRY_AGAIN        ? EAI_AGAIN
         : code == NO_RECOVERY    ? EAI_FAIL
         : code == NETDB_INTERNAL ? EAI_SYSTEM
                                  : EAI_NONAME;
}

/* One attempt with so much memory for the answer; ERANGE: it is too little. */
static int try_entry(struct question *question, size_t size, struct hostent **found, int *code) {
  char *memory = question->entry_memory;
  if (question->host)
    return gethostbyname_r(question->host, &question->entry, memory, size, found, code);
  const struct sockaddr_in *address = (const struct sockaddr_in *)&question->address;
  return gethostbyaddr_r(&address->sin_addr, sizeof address->sin_addr, AF_INET, &question->entry,
                         memory, size, found, code);
}

static void perform_entry(struct question *question) {
  struct hostent *found = NULL;
  int status = ERANGE, code = 0;
  for (size_t size = 1024; status == ERANGE; size *= 2) {
    char *memory = realloc(question->entry_memory, size);
    if (!memory) {
      question->failure = EAI_MEMORY;
      return;
    }
    question->entry_memory = memory;
    status = try_entry(question, size, &found, &code);
  }
  question->error = status;
  question->failure = found ? 0 : from_h_errno(code);
}

void question_perform(struct question *question) {
  if (question->kind == ASK_ADDRESSES)
    perform_addresses(question, 0);
  else if (question->kind == ASK_NAME)
    perform_name(question);
  else
    perform_entry(question);
}

/* ---- answers without a resolver ---- */

static bool is_number(const char *text) {
  return *text && strspn(text, "0123456789") == strlen(text);
}

bool question_answer_at_once(struct question *question, bool services) {
  const char *host = question->host, *service = question->service;
  if (host && (!*host || strlen(host) > QUESTION_NAME_MAX)) {
    question->failure = EAI_NONAME;
    return true;
  }
  if (question->kind != ASK_ADDRESSES || (service && !services && !is_number(service)))
    return false;
  perform_addresses(question, AI_NUMERICHOST);
  return question->failure != EAI_NONAME || !host || (question->hints.ai_flags & AI_NUMERICHOST);
}

/* ---- words ---- */

/* Code for code what LuaSocket says, which is not what the C library says. */
static const struct {
  int code;
  const char *message;
} messages[] = {
    {EAI_AGAIN, "temporary failure in name resolution"},
    {EAI_BADFLAGS, "invalid value for ai_flags"},
    {EAI_FAIL, "non-recoverable failure in name resolution"},
    {EAI_FAMILY, "ai_family not supported"},
    {EAI_MEMORY, "memory allocation failure"},
    {EAI_NONAME, "host or service not provided, or not known"},
    {EAI_OVERFLOW, "argument buffer overflow"},
    {EAI_SERVICE, "service not supported for socket type"},
    {EAI_SOCKTYPE, "ai_socktype not supported"},
};

const char *question_message(const struct question *question) {
  if (question->failure == EAI_SYSTEM)
    return strerror(question->error);
  if (question->kind == ASK_HOST && question->failure == EAI_NONAME)
    return "host not found";
  for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++)
    if (messages[i].code == question->failure)
      return messages[i].message;
  return gai_strerror(question->failure);
}
