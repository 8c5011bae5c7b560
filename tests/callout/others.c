/* others.c: the module's calls for names, children and files (see blocking.c). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blocking.h"

/* ---- names ---- */

static int l_getaddrinfo(lua_State *L) {
  struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
  char text[INET_ADDRSTRLEN];
  int failure = getaddrinfo(luaL_checkstring(L, 1), NULL, &hints, &found);
  if (failure) {
    lua_pushnil(L);
    lua_pushstring(L, failure == EAI_SYSTEM ? strerror(errno) : gai_strerror(failure));
    return 2;
  }
  inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, sizeof text);
  freeaddrinfo(found);
  lua_pushstring(L, text);
  return 1;
}

static int l_getnameinfo(lua_State *L) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  address.sin_port = htons((uint16_t)integer(L, 1));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  char host[256];
  int failure =
      getnameinfo((struct sockaddr *)&address, sizeof address, host, sizeof host, NULL, 0, 0);
  lua_pushstring(L, failure ? gai_strerror(failure) : host);
  return 1;
}

static int push_host(lua_State *L, const struct hostent *found) {
  lua_pushstring(L,
                 found ? inet_ntoa(*(struct in_addr *)found->h_addr_list[0]) : hstrerror(h_errno));
  return 1;
}

static int l_gethostbyname(lua_State *L) {
  return push_host(L, gethostbyname(luaL_checkstring(L, 1)));
}

static int l_gethostbyaddr(lua_State *L) {
  struct in_addr address = {.s_addr = htonl(INADDR_LOOPBACK)};
  return push_host(L, gethostbyaddr(&address, sizeof address, AF_INET));
}

/* ---- children ---- */

static int l_spawn(lua_State *L) {
  extern char **environ;
  pid_t pid;
  char *arguments[] = {"sh", "-c", (char *)luaL_checkstring(L, 1), NULL};
  int failure = posix_spawn(&pid, "/bin/sh", NULL, NULL, arguments, environ);
  return number(L, failure ? -1 : pid);
}

static int status(lua_State *L, pid_t pid, int code) {
  if (pid < 0)
    return luaL_fileresult(L, 0, NULL);
  lua_pushinteger(L, pid);
  lua_pushinteger(L, WIFEXITED(code) ? WEXITSTATUS(code) : -WTERMSIG(code));
  return 2;
}

static int l_wait(lua_State *L) {
  int code = 0;
  pid_t pid = wait(&code);
  return status(L, pid, code);
}

static int l_waitpid(lua_State *L) {
  int code = 0;
  pid_t pid = waitpid(integer(L, 1), &code, 0);
  return status(L, pid, code);
}

static int l_wait3(lua_State *L) {
  struct rusage usage;
  int code = 0;
  pid_t pid = wait3(&code, 0, &usage);
  return status(L, pid, code);
}

static int l_wait4(lua_State *L) {
  struct rusage usage;
  int code = 0;
  pid_t pid = wait4(integer(L, 1), &code, 0, &usage);
  return status(L, pid, code);
}

static int l_waitid(lua_State *L) {
  siginfo_t info = {0};
  int result = waitid(P_PID, (id_t)integer(L, 1), &info, WEXITED);
  if (result != 0)
    return luaL_fileresult(L, 0, NULL);
  lua_pushinteger(L, info.si_pid);
  lua_pushinteger(L, info.si_status);
  return 2;
}

static int l_system(lua_State *L) {
  int code = system(luaL_checkstring(L, 1));
  return status(L, code == -1 ? -1 : 0, code);
}

/* Returns what the command has printed, and its status. */
static int l_popen(lua_State *L) {
  char text[ROOM];
  FILE *file = popen(luaL_checkstring(L, 1), "r");
  if (!file)
    return luaL_fileresult(L, 0, NULL);
  size_t size = fread(text, 1, sizeof text, file);
  int code = pclose(file);
  lua_pushlstring(L, text, size);
  return status(L, code == -1 ? -1 : 0, code) + 1;
}

/* Writes to the command. */
static int l_popen_write(lua_State *L) {
  FILE *file = popen(luaL_checkstring(L, 1), "w");
  fputs(luaL_checkstring(L, 2), file);
  int code = pclose(file);
  return status(L, code == -1 ? -1 : 0, code);
}

/* In the child of a fork: reads, and ends with the length of what it got. */
static int l_fork_and_read(lua_State *L) {
  char buffer[ROOM];
  int fd = integer(L, 1);
  pid_t pid = fork();
  if (pid == 0)
    _exit((int)read(fd, buffer, sizeof buffer));
  return number(L, pid);
}

/* ---- files: each opens its own for a copy of the descriptor ---- */

static FILE *file_for(lua_State *L) { return fdopen(dup(integer(L, 1)), "r"); }

static int text(lua_State *L, FILE *file, const char *line, int failed, size_t size) {
  int error = errno;
  fclose(file);
  errno = error;
  return data(L, line, failed ? -1 : (ssize_t)size);
}

static int l_fgets(lua_State *L) {
  char line[ROOM];
  FILE *file = file_for(L);
  const char *found = fgets(line, sizeof line, file);
  return text(L, file, line, !found, found ? strlen(line) : 0);
}

static int l_fread(lua_State *L) {
  char line[ROOM];
  FILE *file = file_for(L);
  size_t size = fread(line, 1, size_at(L, 2), file);
  return text(L, file, line, ferror(file), size);
}

static int l_getc(lua_State *L) {
  FILE *file = file_for(L);
  int c = getc(file);
  char line = (char)c;
  return text(L, file, &line, c == EOF, 1);
}

static int l_fgetc(lua_State *L) {
  FILE *file = file_for(L);
  int c = fgetc(file);
  char line = (char)c;
  return text(L, file, &line, c == EOF, 1);
}

static int l_getc_unlocked(lua_State *L) {
  FILE *file = file_for(L);
  int c = getc_unlocked(file);
  char line = (char)c;
  return text(L, file, &line, c == EOF, 1);
}

static int l_getline(lua_State *L) {
  char *line = NULL;
  size_t room = 0;
  FILE *file = file_for(L);
  ssize_t size = getline(&line, &room, file);
  int results = text(L, file, line, size < 0, (size_t)size);
  free(line);
  return results;
}

static int l_fscanf(lua_State *L) {
  char word[64] = "";
  FILE *file = file_for(L);
  int count = fscanf(file, "%63s", word);
  return text(L, file, word, count != 1, strlen(word));
}

static int l_getdelim(lua_State *L) {
  char *line = NULL;
  size_t room = 0;
  FILE *file = file_for(L);
  ssize_t size = getdelim(&line, &room, ';', file);
  int results = text(L, file, line, size < 0, (size_t)size);
  free(line);
  return results;
}

/* ---- locks on files, and disks ---- */

static int l_open(lua_State *L) {
  return number(L, open(luaL_checkstring(L, 1), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
}

static int l_flock(lua_State *L) {
  return number(L, flock(integer(L, 1), lua_toboolean(L, 2) ? LOCK_EX : LOCK_UN));
}

static int l_lockf(lua_State *L) {
  return number(L, lockf(integer(L, 1), lua_toboolean(L, 2) ? F_LOCK : F_ULOCK, 0));
}

static int lock_by(lua_State *L, int command) {
  struct flock lock = {.l_type = lua_toboolean(L, 2) ? F_WRLCK : F_UNLCK};
  return number(L, fcntl(integer(L, 1), command, &lock));
}

static int l_setlkw(lua_State *L) { return lock_by(L, F_SETLKW); }

static int l_ofd_setlkw(lua_State *L) { return lock_by(L, F_OFD_SETLKW); }

static int l_fsync(lua_State *L) { return number(L, fsync(integer(L, 1))); }

static int l_fdatasync(lua_State *L) { return number(L, fdatasync(integer(L, 1))); }

const luaL_Reg other_functions[] = {
    FUNCTION(getaddrinfo),   FUNCTION(getnameinfo),   FUNCTION(gethostbyname),
    FUNCTION(gethostbyaddr), FUNCTION(spawn),         FUNCTION(wait),
    FUNCTION(waitpid),       FUNCTION(wait3),         FUNCTION(wait4),
    FUNCTION(waitid),        FUNCTION(system),        FUNCTION(popen),
    FUNCTION(popen_write),   FUNCTION(fork_and_read), FUNCTION(fgets),
    FUNCTION(fread),         FUNCTION(getc),          FUNCTION(fgetc),
    FUNCTION(getc_unlocked), FUNCTION(getline),       FUNCTION(fscanf),
    FUNCTION(getdelim),      FUNCTION(open),          FUNCTION(flock),
    FUNCTION(lockf),         FUNCTION(setlkw),        FUNCTION(ofd_setlkw),
    FUNCTION(fsync),         FUNCTION(fdatasync),     {NULL, NULL}};
