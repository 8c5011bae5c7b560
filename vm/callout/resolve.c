/* resolve.c: getaddrinfo and its kin, in a thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "work.h"

/* ---- getaddrinfo ---- */

struct forward {
  struct task task;
  char *node, *service; /* NULL: none */
  struct addrinfo hints, *found;
  bool hinted;
  int failure, error;
};

static void look_forward(struct task *task) {
  struct forward *self = container_of(task, struct forward, task);
  self->failure =
      getaddrinfo(self->node, self->service, self->hinted ? &self->hints : NULL, &self->found);
  self->error = errno;
}

static void free_forward(struct task *task) {
  struct forward *self = container_of(task, struct forward, task);
  if (self->found)
    freeaddrinfo(self->found);
  free(self->node);
  free(self->service);
  free(self);
}

static struct forward *new_forward(const char *node, const char *service,
                                   const struct addrinfo *hints) {
  struct forward *self = calloc(1, sizeof *self);
  if (!self)
    return NULL;
  *self = (struct forward){.task = {.work = look_forward, .free = free_forward},
                           .node = strdup(node),
                           .service = service ? strdup(service) : NULL,
                           .hinted = hints != NULL};
  if (hints)
    self->hints = *hints;
  if (self->node && (self->service || !service))
    return self;
  free_forward(&self->task);
  return NULL;
}

/* An address in numbers, which takes no lookup. */
static bool is_numeric(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found) {
  struct addrinfo numeric = {.ai_flags = AI_V4MAPPED | AI_ADDRCONFIG};
  if (hints)
    numeric = *hints;
  numeric.ai_flags |= AI_NUMERICHOST;
  return getaddrinfo(node, service, &numeric, found) == 0;
}

static int callout_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                               struct addrinfo **found) {
  struct hub *hub = callout_hub();
  if (!hub || !node)
    return getaddrinfo(node, service, hints, found);
  if (is_numeric(node, service, hints, found))
    return 0;
  struct forward *self = new_forward(node, service, hints);
  enum callout_end end = self ? callout_do(hub, "getaddrinfo", &self->task) : CALLOUT_REFUSED;
  if (end != CALLOUT_AGAIN)
    return end == CALLOUT_REFUSED ? getaddrinfo(node, service, hints, found) : EAI_SYSTEM;
  int failure = self->failure, error = self->error;
  if (failure == 0)
    *found = self->found;
  self->found = NULL;
  task_abandon(&self->task);
  errno = error;
  return failure;
}

/* ---- getnameinfo ---- */

struct backward {
  struct task task;
  struct sockaddr_storage address;
  socklen_t length;
  char host[NI_MAXHOST], service[NI_MAXSERV];
  int flags, failure, error;
};

static void look_backward(struct task *task) {
  struct backward *self = container_of(task, struct backward, task);
  self->failure = getnameinfo((struct sockaddr *)&self->address, self->length, self->host,
                              sizeof self->host, self->service, sizeof self->service, self->flags);
  self->error = errno;
}

static void free_backward(struct task *task) { free(container_of(task, struct backward, task)); }

/* Copies a name, where one is wanted; false: there is no room for it. */
static bool give(char *to, socklen_t room, const char *name) {
  if (!to || room == 0)
    return true;
  if (strlen(name) >= room)
    return false;
  strcpy(to, name);
  return true;
}

static int finish_backward(struct backward *self, char *host, socklen_t host_room, char *service,
                           socklen_t service_room) {
  int failure = self->failure, error = self->error;
  if (failure == 0 &&
      !(give(host, host_room, self->host) && give(service, service_room, self->service)))
    failure = EAI_OVERFLOW;
  task_abandon(&self->task);
  errno = error;
  return failure;
}

static int callout_getnameinfo(const struct sockaddr *address, socklen_t length, char *host,
                               socklen_t host_room, char *service, socklen_t service_room,
                               int flags) {
  struct hub *hub = callout_hub();
  bool numeric = (!host || (flags & NI_NUMERICHOST)) && (!service || (flags & NI_NUMERICSERV));
  struct backward *self = NULL;
  if (hub && !numeric && length <= sizeof self->address)
    self = calloc(1, sizeof *self);
  if (!self)
    return getnameinfo(address, length, host, host_room, service, service_room, flags);
  self->task.work = look_backward;
  self->task.free = free_backward;
  memcpy(&self->address, address, length);
  self->length = length;
  self->flags = flags;
  enum callout_end end = callout_do(hub, "getnameinfo", &self->task);
  if (end == CALLOUT_REFUSED)
    return getnameinfo(address, length, host, host_room, service, service_room, flags);
  if (end == CALLOUT_FAILED)
    return EAI_SYSTEM;
  return finish_backward(self, host, host_room, service, service_room);
}

/* ---- gethostbyname, gethostbyaddr ---- */

#define ROOM 8192 /* for all that is known of a host */

struct host {
  struct task task;
  char *name;       /* NULL: the address is given */
  char address[16]; /* of IPv4 or IPv6 */
  socklen_t length;
  int family, herror;
  struct hostent entry, *found;
  char room[ROOM];
};

/* What is returned stays until so many others have been looked up: greenlets may still use it. */
#define KEPT 32

static _Thread_local struct host *kept[KEPT];
static _Thread_local unsigned next_kept;

static void look_host(struct task *task) {
  struct host *self = container_of(task, struct host, task);
  if (self->name)
    gethostbyname2_r(self->name, self->family, &self->entry, self->room, ROOM, &self->found,
                     &self->herror);
  else
    gethostbyaddr_r(self->address, self->length, self->family, &self->entry, self->room, ROOM,
                    &self->found, &self->herror);
}

static void free_host(struct task *task) {
  struct host *self = container_of(task, struct host, task);
  free(self->name);
  free(self);
}

static struct hostent *keep(struct host *self) {
  struct host **place = &kept[next_kept++ % KEPT];
  h_errno = self->herror;
  wakeup_drop(&self->task.wakeup);
  if (*place)
    task_abandon(&(*place)->task);
  *place = self;
  return self->found;
}

/* NULL: the real function has to do it; else *end says what has become of it. */
static struct host *look_up(struct host *self, const char *name, enum callout_end *end) {
  self->task.work = look_host;
  self->task.free = free_host;
  *end = callout_do(callout_hub(), name, &self->task);
  if (*end == CALLOUT_FAILED)
    h_errno = TRY_AGAIN;
  return *end == CALLOUT_REFUSED ? NULL : self;
}

static struct hostent *callout_gethostbyname2(const char *name, int family) {
  enum callout_end end;
  char *copy = callout_hub() ? strdup(name) : NULL;
  struct host *self = copy ? calloc(1, sizeof *self) : NULL;
  if (!self) {
    free(copy);
    return gethostbyname2(name, family);
  }
  self->family = family;
  self->name = copy;
  if (!look_up(self, "gethostbyname", &end))
    return gethostbyname2(name, family);
  return end == CALLOUT_AGAIN ? keep(self) : NULL;
}

static struct hostent *callout_gethostbyname(const char *name) {
  return callout_gethostbyname2(name, AF_INET);
}

static struct hostent *callout_gethostbyaddr(const void *address, socklen_t length, int family) {
  enum callout_end end;
  struct host *self = NULL;
  if (length <= sizeof self->address && callout_hub())
    self = calloc(1, sizeof *self);
  if (!self)
    return gethostbyaddr(address, length, family);
  memcpy(self->address, address, length);
  self->length = length;
  self->family = family;
  if (!look_up(self, "gethostbyaddr", &end))
    return gethostbyaddr(address, length, family);
  return end == CALLOUT_AGAIN ? keep(self) : NULL;
}

const struct callout_name callout_resolve_names[] = {
    CALLOUT(getaddrinfo),    CALLOUT(getnameinfo),   CALLOUT(gethostbyname),
    CALLOUT(gethostbyname2), CALLOUT(gethostbyaddr), CALLOUT_END};
