/* several.c: see several.h. */
#define _GNU_SOURCE
#include "several.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "../io.h"

#define FEW 8

struct entry {
  struct waiter waiter;
  struct several *several;
  struct link *ring; /* of the descriptor; NULL: not waited for */
};

struct several {
  struct link caller; /* ring: the greenlet that waits */
  struct hub *hub;
  int odd; /* the epoll for what libev cannot wait for; -1 */
  nfds_t count;
  struct entry *entries;
};

/* ---- what to wait for ---- */

static int events_of(const struct pollfd *polled) {
  return (polled->events & (POLLIN | POLLRDNORM) ? EV_READ : 0) |
         (polled->events & (POLLOUT | POLLWRNORM) ? EV_WRITE : 0);
}

/* Whether libev knows what is meant; it reports an end or an error as any event. */
static bool is_odd(const struct pollfd *polled) {
  return !events_of(polled) || (polled->events & (POLLPRI | POLLRDBAND));
}

static void tell(struct waiter *waiter) {
  struct entry *entry = container_of(waiter, struct entry, waiter);
  list_remove(&waiter->link);
  wait_notify(&entry->several->caller);
}

static bool set_entry(struct several *several, struct entry *entry, int fd, int events) {
  *entry = (struct entry){.waiter = {.notify = tell, .events = (short)events},
                          .several = several,
                          .ring = io_find_ring(several->hub, fd)};
  return entry->ring != NULL;
}

/* The epoll's events have the values of poll's. */
static bool add_odd(struct several *several, const struct pollfd *polled) {
  struct epoll_event event = {.events = (uint32_t)(unsigned short)polled->events};
  if (several->odd == -1)
    several->odd = epoll_create1(EPOLL_CLOEXEC);
  return several->odd != -1 &&
         (epoll_ctl(several->odd, EPOLL_CTL_ADD, polled->fd, &event) == 0 || errno == EEXIST);
}

/* Those in the epoll are in the descriptor's ring, too, where they hear of its being closed. */
static bool set_entries(struct several *several, const struct pollfd *polled, nfds_t count) {
  for (nfds_t i = 0; i < count; i++) {
    bool odd = is_odd(&polled[i]);
    if (polled[i].fd < 0)
      continue;
    if (odd && !add_odd(several, &polled[i]))
      return false;
    if (!set_entry(several, &several->entries[several->count], polled[i].fd,
                   odd ? 0 : events_of(&polled[i])))
      return false;
    several->count++;
  }
  if (several->odd == -1)
    return true;
  return set_entry(several, &several->entries[several->count++], several->odd, EV_READ);
}

/* ---- waiting ---- */

static void enter(struct link *ring) {
  struct several *several = container_of(ring, struct several, caller);
  for (nfds_t i = 0; i < several->count; i++) {
    struct entry *entry = &several->entries[i];
    waiter_join(several->hub, entry->ring, &entry->waiter);
    io_enter(entry->ring);
  }
}

static void leave(struct link *ring) {
  struct several *several = container_of(ring, struct several, caller);
  for (nfds_t i = 0; i < several->count; i++) {
    struct entry *entry = &several->entries[i];
    if (list_linked(&entry->waiter.link))
      list_remove(&entry->waiter.link);
    io_leave(entry->ring);
  }
}

enum callout_end callout_wait_several(struct hub *hub, const char *name,
                                      const struct pollfd *polled, nfds_t count, double due) {
  struct entry few[FEW];
  struct several several = {.hub = hub, .odd = -1, .entries = few};
  struct wait_kind kind = {.name = name, .enter = enter, .leave = leave};
  enum callout_end end = CALLOUT_REFUSED;
  list_init(&several.caller);
  if (count >= FEW && !(several.entries = malloc((count + 1) * sizeof *several.entries)))
    return CALLOUT_REFUSED;
  if (set_entries(&several, polled, count)) {
    kind.external = several.count > 0;
    end = callout_wait(hub, &several.caller, due, &kind);
  }
  int error = errno;
  if (several.odd != -1) {
    callout_forget_fd(several.odd);
    close(several.odd);
  }
  if (several.entries != few)
    free(several.entries);
  errno = error;
  if (end == CALLOUT_REFUSED)
    return callout_wait_patiently(hub, (struct pollfd *)polled, count, due);
  return end;
}
