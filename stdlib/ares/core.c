/*
 * core.c: require "moonlet.ares.core", questions of names answered by c-ares.
 *
 * Each question has a channel of its own: its sockets and unpredictable ports are no other's,
 * giving it up is closing the channel, a change of resolv.conf counts at once, and a forked
 * child shares none.
 */
#define _GNU_SOURCE
#include <ares.h>
#include <lauxlib.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "../socket/query.h"
#include "../socket/question.h"

__attribute__((visibility("default"))) int luaopen_moonlet_ares_core(lua_State *L);

struct channel {
  ares_channel ares;
  struct question *question;
  bool done;
};

/* ---- failures ---- */

static int to_eai(int status) {
  switch (status) {
  case ARES_SUCCESS:
    return 0;
  case ARES_ENODATA:
    return EAI_NODATA;
  case ARES_ENOTFOUND:
  case ARES_ENONAME:
  case ARES_EBADNAME:
  case ARES_EBADQUERY:
    return EAI_NONAME;
  case ARES_ESERVFAIL:
  case ARES_ETIMEOUT:
  case ARES_ECONNREFUSED:
    return EAI_AGAIN;
  case ARES_ENOMEM:
    return EAI_MEMORY;
  case ARES_ESERVICE:
    return EAI_SERVICE;
  case ARES_EBADFAMILY:
    return EAI_FAMILY;
  case ARES_EBADFLAGS:
  case ARES_EBADHINTS:
    return EAI_BADFLAGS;
  case ARES_ECANCELLED:
  case ARES_EDESTRUCTION:
    return EAI_CANCELED;
  default:
    return EAI_FAIL;
  }
}

static void finish(struct channel *channel, int failure) {
  channel->question->failure = failure;
  channel->done = true;
}

/* ---- addresses ---- */

static void free_addresses(struct addrinfo *info) {
  while (info) {
    struct addrinfo *next = info->ai_next;
    free(info->ai_canonname);
    free(info);
    info = next;
  }
}

/* A copy of the node, its address in the same block of memory. */
static struct addrinfo *copy_node(const struct ares_addrinfo_node *node) {
  struct addrinfo *info = calloc(1, sizeof *info + node->ai_addrlen);
  if (!info)
    return NULL;
  info->ai_family = node->ai_family;
  info->ai_socktype = node->ai_socktype;
  info->ai_protocol = node->ai_protocol;
  info->ai_addrlen = node->ai_addrlen;
  info->ai_addr = memcpy(info + 1, node->ai_addr, node->ai_addrlen);
  return info;
}

/* The name at the end of the chain of aliases. */
static const char *canonical_name(const struct ares_addrinfo *found, const char *asked) {
  const char *name = found->name ? found->name : asked;
  for (const struct ares_addrinfo_cname *cname = found->cnames; cname; cname = cname->next)
    if (cname->name)
      name = cname->name;
  return name;
}

/* 0, or EAI_MEMORY. */
static int copy_addresses(struct question *question, const struct ares_addrinfo *found) {
  struct addrinfo **end = &question->addresses;
  question->free_addresses = free_addresses;
  for (const struct ares_addrinfo_node *node = found->nodes; node; node = node->ai_next) {
    *end = copy_node(node);
    if (!*end)
      return EAI_MEMORY;
    end = &(*end)->ai_next;
  }
  if (!question->addresses)
    return EAI_NODATA;
  if (!(question->hints.ai_flags & AI_CANONNAME))
    return 0;
  question->addresses->ai_canonname = strdup(canonical_name(found, question->host));
  return question->addresses->ai_canonname ? 0 : EAI_MEMORY;
}

static void on_addresses(void *argument, int status, int timeouts, struct ares_addrinfo *found) {
  struct channel *channel = argument;
  (void)timeouts;
  finish(channel,
         status == ARES_SUCCESS ? copy_addresses(channel->question, found) : to_eai(status));
  if (found)
    ares_freeaddrinfo(found);
}

static void ask_addresses(struct channel *channel) {
  static const struct {
    int theirs, ours;
  } flags[] = {{AI_CANONNAME, ARES_AI_CANONNAME},  {AI_NUMERICHOST, ARES_AI_NUMERICHOST},
               {AI_PASSIVE, ARES_AI_PASSIVE},      {AI_NUMERICSERV, ARES_AI_NUMERICSERV},
               {AI_V4MAPPED, ARES_AI_V4MAPPED},    {AI_ALL, ARES_AI_ALL},
               {AI_ADDRCONFIG, ARES_AI_ADDRCONFIG}};
  const struct question *question = channel->question;
  struct ares_addrinfo_hints hints = {.ai_family = question->hints.ai_family,
                                      .ai_socktype = question->hints.ai_socktype,
                                      .ai_protocol = question->hints.ai_protocol};
  for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
    if (question->hints.ai_flags & flags[i].theirs)
      hints.ai_flags |= flags[i].ours;
  ares_getaddrinfo(channel->ares, question->host, question->service, &hints, on_addresses, channel);
}

/* ---- names ---- */

/* c-ares ends an IPv6 address of no particular interface with "%0". */
static void copy_name(char name[NI_MAXHOST], const char *found) {
  size_t length = strlen(found);
  if (length > 2 && strcmp(found + length - 2, "%0") == 0)
    length -= 2;
  if (length >= NI_MAXHOST)
    length = NI_MAXHOST - 1;
  memcpy(name, found, length);
  name[length] = 0;
}

static void on_name(void *argument, int status, int timeouts, char *name, char *service) {
  struct channel *channel = argument;
  struct question *question = channel->question;
  (void)timeouts;
  if (name)
    copy_name(question->name, name);
  if (service)
    snprintf(question->port, sizeof question->port, "%s", service);
  finish(channel, to_eai(status));
}

static void ask_name(struct channel *channel) {
  const struct question *question = channel->question;
  int flags = ARES_NI_LOOKUPHOST | ARES_NI_LOOKUPSERVICE;
  if (question->hints.ai_flags & NI_NUMERICHOST)
    flags |= ARES_NI_NUMERICHOST;
  ares_getnameinfo(channel->ares, (const struct sockaddr *)&question->address, question->length,
                   flags, on_name, channel);
}

/* ---- entries of hosts ---- */

static int count(char *const *list) {
  int number = 0;
  while (list && list[number])
    number++;
  return number;
}

/*
 * Copies the entry into one block of memory: pointers, then addresses, then names.
 * Returns 0, or EAI_MEMORY.
 */
static int copy_entry(struct question *question, const struct hostent *found) {
  int aliases = count(found->h_aliases), addresses = count(found->h_addr_list);
  size_t pointers = (size_t)(aliases + addresses + 2) * sizeof(char *);
  size_t size = pointers + (size_t)addresses * (size_t)found->h_length + strlen(found->h_name) + 1;
  for (int i = 0; i < aliases; i++)
    size += strlen(found->h_aliases[i]) + 1;
  char *memory = question->entry_memory = malloc(size);
  if (!memory)
    return EAI_MEMORY;

  struct hostent *entry = &question->entry;
  *entry = (struct hostent){.h_addrtype = found->h_addrtype, .h_length = found->h_length};
  entry->h_aliases = (char **)memory;
  entry->h_addr_list = entry->h_aliases + aliases + 1;
  memory += pointers;
  for (int i = 0; i < addresses; i++, memory += found->h_length)
    entry->h_addr_list[i] = memcpy(memory, found->h_addr_list[i], (size_t)found->h_length);
  entry->h_addr_list[addresses] = NULL;
  for (int i = 0; i < aliases; i++, memory += strlen(memory) + 1)
    entry->h_aliases[i] = strcpy(memory, found->h_aliases[i]);
  entry->h_aliases[aliases] = NULL;
  entry->h_name = strcpy(memory, found->h_name);
  return 0;
}

/* The old interface knows no other failure than that there is no such host. */
static void on_entry(void *argument, int status, int timeouts, struct hostent *found) {
  struct channel *channel = argument;
  (void)timeouts;
  if (status == ARES_SUCCESS && !found->h_addr_list[0])
    status = ARES_ENODATA;
  int failure = status == ARES_SUCCESS ? copy_entry(channel->question, found) : to_eai(status);
  finish(channel, failure == EAI_NODATA ? EAI_NONAME : failure);
}

static void ask_entry(struct channel *channel) {
  const struct question *question = channel->question;
  const struct sockaddr_in *address = (const struct sockaddr_in *)&question->address;
  if (question->host)
    ares_gethostbyname(channel->ares, question->host, AF_INET, on_entry, channel);
  else
    ares_gethostbyaddr(channel->ares, &address->sin_addr, sizeof address->sin_addr, AF_INET,
                       on_entry, channel);
}

/* ---- channels ---- */

static void close_channel(void *argument) {
  struct channel *channel = argument;
  ares_destroy(channel->ares);
  free(channel);
}

static int set_up(struct channel *channel, const char *servers) {
  int status = ares_init(&channel->ares);
  if (status != ARES_SUCCESS)
    return status;
  if (servers)
    status = ares_set_servers_ports_csv(channel->ares, servers);
  if (status != ARES_SUCCESS)
    ares_destroy(channel->ares);
  return status;
}

static void *open_channel(struct question *question, const char *servers) {
  struct channel *channel = calloc(1, sizeof *channel);
  int status = channel ? set_up(channel, servers) : ARES_ENOMEM;
  if (status != ARES_SUCCESS) {
    question->failure = to_eai(status);
    free(channel);
    return NULL;
  }
  channel->question = question;
  if (question->kind == ASK_ADDRESSES)
    ask_addresses(channel);
  else if (question->kind == ASK_NAME)
    ask_name(channel);
  else
    ask_entry(channel);
  return channel;
}

/* (The library's own macros for this shift a bit into the sign.) */
static int list_descriptors(void *argument, struct pollfd descriptors[QUERY_DESCRIPTORS]) {
  const struct channel *channel = argument;
  ares_socket_t sockets[ARES_GETSOCK_MAXNUM];
  unsigned bits = (unsigned)ares_getsock(channel->ares, sockets, ARES_GETSOCK_MAXNUM);
  int number = 0;
  for (int i = 0; i < ARES_GETSOCK_MAXNUM; i++) {
    int events =
        (bits >> i & 1 ? POLLIN : 0) | (bits >> (i + ARES_GETSOCK_MAXNUM) & 1 ? POLLOUT : 0);
    if (events)
      descriptors[number++] = (struct pollfd){.fd = sockets[i], .events = (short)events};
  }
  return number;
}

static bool process(void *argument) {
  struct channel *channel = argument;
  struct pollfd ready[QUERY_DESCRIPTORS];
  int number = channel->done ? 0 : list_descriptors(channel, ready);
  if (poll(ready, (nfds_t)number, 0) > 0)
    for (int i = 0; i < number; i++) {
      bool broken = ready[i].revents & (POLLERR | POLLHUP | POLLNVAL);
      ares_process_fd(channel->ares,
                      broken || (ready[i].revents & POLLIN) ? ready[i].fd : ARES_SOCKET_BAD,
                      broken || (ready[i].revents & POLLOUT) ? ready[i].fd : ARES_SOCKET_BAD);
    }
  if (!channel->done)
    ares_process_fd(channel->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
  return channel->done;
}

static double patience(void *argument) {
  const struct channel *channel = argument;
  struct timeval memory;
  const struct timeval *limit = ares_timeout(channel->ares, NULL, &memory);
  return limit ? (double)limit->tv_sec + (double)limit->tv_usec / 1e6 : -1;
}

static bool are_servers(const char *servers) {
  struct channel channel;
  if (set_up(&channel, servers) != ARES_SUCCESS)
    return false;
  ares_destroy(channel.ares);
  return true;
}

_Static_assert(QUERY_DESCRIPTORS >= ARES_GETSOCK_MAXNUM, "room for all descriptors");

static const struct query_kind query_kind = {.open = open_channel,
                                             .process = process,
                                             .descriptors = list_descriptors,
                                             .patience = patience,
                                             .close = close_channel,
                                             .are_servers = are_servers};

/* ---- the module ---- */

int luaopen_moonlet_ares_core(lua_State *L) {
  luaL_checkversion(L);
  int status = ares_library_init(ARES_LIB_INIT_ALL);
  if (status != ARES_SUCCESS)
    return luaL_error(L, "c-ares: %s", ares_strerror(status));
  lua_createtable(L, 0, 2);
  lua_pushlightuserdata(L, (void *)&query_kind);
  lua_setfield(L, -2, "query_kind");
  lua_pushfstring(L, "c-ares %s", ares_version(NULL));
  lua_setfield(L, -2, "library");
  return 1;
}
