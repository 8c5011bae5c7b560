/*
 * blocking.c: a Lua module of a kind that knows nothing of greenlets: each of its functions calls
 * the function of the C library that it is named after, which may block.  It returns a result,
 * or nil, a message and errno.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "blocking.h"

/* ---- input ---- */

static int l_read(lua_State *L) {
  char buffer[ROOM];
  return data(L, buffer, read(integer(L, 1), buffer, size_at(L, 2)));
}

static int l_readv(lua_State *L) {
  char buffer[ROOM];
  struct iovec pieces[2] = {{buffer, 2}, {buffer + 2, sizeof buffer - 2}};
  return data(L, buffer, readv(integer(L, 1), pieces, 2));
}

static int l_recv(lua_State *L) {
  char buffer[ROOM];
  return data(L, buffer, recv(integer(L, 1), buffer, size_at(L, 2), (int)luaL_optinteger(L, 3, 0)));
}

static int l_recvfrom(lua_State *L) {
  char buffer[ROOM];
  struct sockaddr_storage from;
  socklen_t length = sizeof from;
  return data(L, buffer,
              recvfrom(integer(L, 1), buffer, size_at(L, 2), 0, (struct sockaddr *)&from, &length));
}

static int l_recvmsg(lua_State *L) {
  char buffer[ROOM];
  struct iovec piece = {buffer, sizeof buffer};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
  return data(L, buffer, recvmsg(integer(L, 1), &message, 0));
}

static int l_recvmmsg(lua_State *L) {
  char buffer[ROOM];
  struct iovec piece = {buffer, sizeof buffer};
  struct mmsghdr message = {.msg_hdr = {.msg_iov = &piece, .msg_iovlen = 1}};
  int count = recvmmsg(integer(L, 1), &message, 1, 0, NULL);
  return data(L, buffer, count < 0 ? -1 : (ssize_t)message.msg_len);
}

/* ---- output ---- */

static int l_write(lua_State *L) {
  size_t size;
  const char *text = luaL_checklstring(L, 2, &size);
  return number(L, write(integer(L, 1), text, size));
}

/* The text in two pieces. */
static void halve(lua_State *L, struct iovec pieces[2]) {
  size_t size;
  char *text = (char *)luaL_checklstring(L, 2, &size);
  pieces[0] = (struct iovec){text, size / 2};
  pieces[1] = (struct iovec){text + size / 2, size - size / 2};
}

static int l_writev(lua_State *L) {
  struct iovec pieces[2];
  halve(L, pieces);
  return number(L, writev(integer(L, 1), pieces, 2));
}

static int l_send(lua_State *L) {
  size_t size;
  const char *text = luaL_checklstring(L, 2, &size);
  return number(L, send(integer(L, 1), text, size, MSG_NOSIGNAL));
}

static int l_sendto(lua_State *L) {
  size_t size;
  const char *text = luaL_checklstring(L, 2, &size);
  return number(L, sendto(integer(L, 1), text, size, 0, NULL, 0));
}

static int l_sendmsg(lua_State *L) {
  struct iovec pieces[2];
  struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
  halve(L, pieces);
  return number(L, sendmsg(integer(L, 1), &message, 0));
}

static int l_sendmmsg(lua_State *L) {
  struct iovec pieces[2];
  struct mmsghdr message = {.msg_hdr = {.msg_iov = pieces, .msg_iovlen = 2}};
  halve(L, pieces);
  int count = sendmmsg(integer(L, 1), &message, 1, 0);
  return number(L, count < 0 ? -1 : (long long)message.msg_len);
}

/* sendfile(to, path): the whole file. */
static int l_sendfile(lua_State *L) {
  int from = open(luaL_checkstring(L, 2), O_RDONLY | O_CLOEXEC);
  ssize_t sent = sendfile(integer(L, 1), from, NULL, 1 << 30);
  int error = errno;
  close(from);
  errno = error;
  return number(L, sent);
}

/* ---- descriptors ---- */

static int two(lua_State *L, int result, const int fds[2]) {
  if (result != 0)
    return luaL_fileresult(L, 0, NULL);
  lua_pushinteger(L, fds[0]);
  lua_pushinteger(L, fds[1]);
  return 2;
}

static int l_pipe(lua_State *L) {
  int fds[2];
  return two(L, pipe2(fds, O_CLOEXEC), fds);
}

static int l_socketpair(lua_State *L) {
  int fds[2];
  return two(L, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), fds);
}

static int l_eventfd(lua_State *L) { return number(L, eventfd(0, EFD_CLOEXEC)); }

/* A timer that ends once, after so many milliseconds. */
static int l_timerfd(lua_State *L) {
  struct itimerspec time = {.it_value.tv_nsec = integer(L, 1) * 1000000L};
  int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  timerfd_settime(fd, 0, &time, NULL);
  return number(L, fd);
}

/* The two ends of a terminal. */
static int l_terminal(lua_State *L) {
  int fds[2] = {posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), -1};
  grantpt(fds[0]);
  unlockpt(fds[0]);
  fds[1] = open(ptsname(fds[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
  return two(L, fds[1] < 0, fds);
}

static int l_close(lua_State *L) { return number(L, close(integer(L, 1))); }

static int l_dup2(lua_State *L) { return number(L, dup2(integer(L, 1), integer(L, 2))); }

static int l_dup3(lua_State *L) { return number(L, dup3(integer(L, 1), integer(L, 2), O_CLOEXEC)); }

static int l_nonblocking(lua_State *L) {
  int fd = integer(L, 1);
  return number(L, fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK));
}

static int l_is_nonblocking(lua_State *L) {
  lua_pushboolean(L, fcntl(integer(L, 1), F_GETFL) & O_NONBLOCK);
  return 1;
}

/* limit(fd, seconds): SO_RCVTIMEO and SO_SNDTIMEO. */
static int l_limit(lua_State *L) {
  double seconds = luaL_checknumber(L, 2);
  struct timeval limit = {.tv_sec = (time_t)seconds};
  limit.tv_usec = (suseconds_t)((seconds - (double)limit.tv_sec) * 1e6);
  int fd = integer(L, 1);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  return number(L, setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
}

/* ---- connections ---- */

static struct sockaddr_in loopback(lua_State *L, int arg) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  address.sin_port = htons((uint16_t)integer(L, arg));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

static int l_listen(lua_State *L) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t length = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  bind(fd, (struct sockaddr *)&address, length);
  listen(fd, (int)luaL_optinteger(L, 1, 5));
  getsockname(fd, (struct sockaddr *)&address, &length);
  lua_pushinteger(L, fd);
  lua_pushinteger(L, ntohs(address.sin_port));
  return 2;
}

static int l_connect(lua_State *L) {
  struct sockaddr_in address = loopback(L, 1);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int result = connect(fd, (struct sockaddr *)&address, sizeof address), error = errno;
  if (result != 0)
    close(fd);
  errno = error;
  return number(L, result == 0 ? fd : -1);
}

/* A listening socket of the Unix domain, for one connection that has not been accepted. */
static int l_listen_unix(lua_State *L) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, luaL_checkstring(L, 1), sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int result = bind(fd, (struct sockaddr *)&address, sizeof address);
  listen(fd, 0);
  return number(L, result == 0 ? fd : -1);
}

static int l_connect_unix(lua_State *L) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, luaL_checkstring(L, 1), sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int result = connect(fd, (struct sockaddr *)&address, sizeof address);
  return number(L, result == 0 ? fd : -1);
}

static int l_accept(lua_State *L) { return number(L, accept(integer(L, 1), NULL, NULL)); }

static int l_accept4(lua_State *L) {
  return number(L, accept4(integer(L, 1), NULL, NULL, SOCK_CLOEXEC));
}

/* ---- several descriptors: poll(fd, events, milliseconds) ---- */

static int l_poll(lua_State *L) {
  struct pollfd polled = {.fd = integer(L, 1), .events = (short)integer(L, 2)};
  int found = poll(&polled, 1, integer(L, 3));
  if (found > 0)
    found = polled.revents;
  return number(L, found);
}

static struct timespec timespec_at(lua_State *L, int arg) {
  double seconds = luaL_checknumber(L, arg) / 1000;
  struct timespec time = {.tv_sec = (time_t)seconds};
  time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
  return time;
}

static int l_ppoll(lua_State *L) {
  struct pollfd polled = {.fd = integer(L, 1), .events = (short)integer(L, 2)};
  struct timespec limit = timespec_at(L, 3);
  sigset_t mask;
  sigemptyset(&mask);
  int found = ppoll(&polled, 1, &limit, lua_toboolean(L, 4) ? &mask : NULL);
  return number(L, found);
}

static void fill(lua_State *L, fd_set sets[3]) {
  int events = integer(L, 2);
  for (int i = 0; i < 3; i++)
    FD_ZERO(&sets[i]);
  if (events & POLLIN)
    FD_SET(integer(L, 1), &sets[0]);
  if (events & POLLOUT)
    FD_SET(integer(L, 1), &sets[1]);
  if (events & POLLPRI)
    FD_SET(integer(L, 1), &sets[2]);
}

/* Returns how many are ready, the milliseconds left, and what the sets say about it. */
static int l_select(lua_State *L) {
  fd_set sets[3];
  struct timespec limit = timespec_at(L, 3);
  struct timeval left = {limit.tv_sec, limit.tv_nsec / 1000};
  int fd = integer(L, 1);
  fill(L, sets);
  int found = select(fd + 1, &sets[0], &sets[1], &sets[2], &left);
  if (number(L, found) != 1)
    return 3;
  lua_pushnumber(L, (double)left.tv_sec * 1e3 + (double)left.tv_usec * 1e-3);
  lua_pushinteger(L, (FD_ISSET(fd, &sets[0]) ? POLLIN : 0) |
                         (FD_ISSET(fd, &sets[1]) ? POLLOUT : 0) |
                         (FD_ISSET(fd, &sets[2]) ? POLLPRI : 0));
  return 3;
}

static int l_pselect(lua_State *L) {
  fd_set sets[3];
  struct timespec limit = timespec_at(L, 3);
  sigset_t mask;
  sigemptyset(&mask);
  fill(L, sets);
  return number(L, pselect(integer(L, 1) + 1, &sets[0], &sets[1], &sets[2], &limit,
                           lua_toboolean(L, 4) ? &mask : NULL));
}

static int wait_by_epoll(lua_State *L, int masked) {
  struct epoll_event event = {.events = (uint32_t)integer(L, 2)}, found;
  sigset_t mask;
  sigemptyset(&mask);
  int fd = epoll_create1(EPOLL_CLOEXEC);
  epoll_ctl(fd, EPOLL_CTL_ADD, integer(L, 1), &event);
  int count = masked ? epoll_pwait(fd, &found, 1, integer(L, 3), &mask)
                     : epoll_wait(fd, &found, 1, integer(L, 3));
  int error = errno;
  close(fd);
  errno = error;
  return number(L, count);
}

static int l_epoll_wait(lua_State *L) { return wait_by_epoll(L, 0); }

static int l_epoll_pwait(lua_State *L) { return wait_by_epoll(L, 1); }

/* ---- time, in milliseconds ---- */

static int l_sleep(lua_State *L) {
  return number(L, sleep((unsigned)(luaL_checknumber(L, 1) / 1000)));
}

static int l_usleep(lua_State *L) {
  return number(L, usleep((useconds_t)(luaL_checknumber(L, 1) * 1000)));
}

static int l_nanosleep(lua_State *L) {
  struct timespec time = timespec_at(L, 1);
  return number(L, nanosleep(&time, NULL));
}

static int l_clock_nanosleep(lua_State *L) {
  struct timespec time = timespec_at(L, 1);
  return number(L, -clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL));
}

static int l_sleep_until(lua_State *L) {
  struct timespec now, time = timespec_at(L, 1);
  clock_gettime(CLOCK_REALTIME, &now);
  time.tv_sec += now.tv_sec + (time.tv_nsec + now.tv_nsec) / 1000000000;
  time.tv_nsec = (time.tv_nsec + now.tv_nsec) % 1000000000;
  return number(L, -clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &time, NULL));
}

/* Sleeps on until the time is over, as some libraries do. */
static int l_sleep_stubbornly(lua_State *L) {
  struct timespec time = timespec_at(L, 1);
  while (nanosleep(&time, &time) != 0)
    ;
  return 0;
}

/* ---- what errors must not do ---- */

/* Reads with its own frame between; returns what it got, and whether its end was reached. */
static int l_guarded_read(lua_State *L) {
  static int inside;
  char buffer[ROOM];
  inside++;
  ssize_t size = read(integer(L, 1), buffer, sizeof buffer);
  inside--;
  lua_pushinteger(L, inside);
  lua_setglobal(L, "inside");
  return data(L, buffer, size);
}

/* Raises an error when it cannot read. */
static int l_checked_read(lua_State *L) {
  char buffer[ROOM];
  ssize_t size = read(integer(L, 1), buffer, sizeof buffer);
  return size < 0 ? luaL_error(L, "cannot read: %s", strerror(errno)) : data(L, buffer, size);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int signum) {
  (void)signum;
  alarms++;
}

/* Reads while signals come, whose handler does not ask for calls to go on after it.  Returns what
   it got, and how many there were. */
static int l_alarmed_read(lua_State *L) {
  struct sigaction action = {.sa_handler = on_alarm}, before;
  struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
  char buffer[ROOM];
  alarms = 0;
  sigaction(SIGALRM, &action, &before);
  setitimer(ITIMER_REAL, &often, NULL);
  ssize_t size = read(integer(L, 1), buffer, sizeof buffer);
  setitimer(ITIMER_REAL, &never, NULL);
  sigaction(SIGALRM, &before, NULL);
  if (data(L, buffer, size) != 1)
    return 3;
  lua_pushinteger(L, alarms);
  return 2;
}

/* Reads by a function whose address was taken before. */
static ssize_t (*volatile reader)(int, void *, size_t) = read;

static int l_read_by_pointer(lua_State *L) {
  char buffer[ROOM];
  return data(L, buffer, reader(integer(L, 1), buffer, sizeof buffer));
}

/* errno as it was left before a wait. */
static int l_errno_across(lua_State *L) {
  struct pollfd polled = {.fd = integer(L, 1), .events = POLLIN};
  errno = integer(L, 2);
  poll(&polled, 1, integer(L, 3));
  lua_pushinteger(L, errno);
  return 1;
}

/* What a library does while it is loaded, if its loader has said so in the environment. */
#define AT_LOAD "BLOCKING_AT_LOAD"

__attribute__((constructor)) static void begin(void) {
  const char *address = getenv(AT_LOAD);
  if (address)
    ((void (*)(void))strtoull(address, NULL, 16))();
}

static void rest(void) { usleep(2000); }

/*
 * load(name, deep, rests): loads the module again from another file; deep: it binds to its own
 * libraries first; rests: its constructor has this one sleep.  Returns the handle and the module.
 */
static int l_load(lua_State *L) {
  char address[32];
  snprintf(address, sizeof address, "%llx", (unsigned long long)(size_t)rest);
  if (lua_toboolean(L, 3))
    setenv(AT_LOAD, address, 1);
  int mode = lua_toboolean(L, 2) ? RTLD_NOW | RTLD_DEEPBIND : RTLD_NOW;
  void *handle = dlopen(luaL_checkstring(L, 1), mode);
  unsetenv(AT_LOAD);
  if (!handle)
    return luaL_error(L, "%s", dlerror());
  int (*open)(lua_State *) = (int (*)(lua_State *))dlsym(handle, "luaopen_blocking");
  lua_pushlightuserdata(L, handle);
  return open(L) + 1;
}

static int l_unload(lua_State *L) { return number(L, dlclose(lua_touserdata(L, 1))); }

static const luaL_Reg functions[] = {FUNCTION(read),           FUNCTION(readv),
                                     FUNCTION(recv),           FUNCTION(recvfrom),
                                     FUNCTION(recvmsg),        FUNCTION(recvmmsg),
                                     FUNCTION(write),          FUNCTION(writev),
                                     FUNCTION(send),           FUNCTION(sendto),
                                     FUNCTION(sendmsg),        FUNCTION(sendmmsg),
                                     FUNCTION(sendfile),       FUNCTION(pipe),
                                     FUNCTION(socketpair),     FUNCTION(eventfd),
                                     FUNCTION(timerfd),        FUNCTION(terminal),
                                     FUNCTION(close),          FUNCTION(dup2),
                                     FUNCTION(dup3),           FUNCTION(nonblocking),
                                     FUNCTION(is_nonblocking), FUNCTION(limit),
                                     FUNCTION(listen),         FUNCTION(connect),
                                     FUNCTION(listen_unix),    FUNCTION(connect_unix),
                                     FUNCTION(accept),         FUNCTION(accept4),
                                     FUNCTION(poll),           FUNCTION(ppoll),
                                     FUNCTION(select),         FUNCTION(pselect),
                                     FUNCTION(epoll_wait),     FUNCTION(epoll_pwait),
                                     FUNCTION(sleep),          FUNCTION(usleep),
                                     FUNCTION(nanosleep),      FUNCTION(clock_nanosleep),
                                     FUNCTION(sleep_until),    FUNCTION(sleep_stubbornly),
                                     FUNCTION(guarded_read),   FUNCTION(checked_read),
                                     FUNCTION(alarmed_read),   FUNCTION(read_by_pointer),
                                     FUNCTION(errno_across),   FUNCTION(load),
                                     FUNCTION(unload),         {NULL, NULL}};

__attribute__((visibility("default"))) int luaopen_blocking(lua_State *L);

int luaopen_blocking(lua_State *L) {
  luaL_newlib(L, functions);
  luaL_setfuncs(L, other_functions, 0);
  return 1;
}
