/* A real overflow of a greenlet's C stack says so, names the greenlet, and ends by SIGSEGV. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "support.h"

/* Uses so much of the C stack that none of 4 MB is left, in frames smaller than a page. */
static int eat(volatile char *above, int frames) {
  volatile char frame[2048];
  frame[0] = above ? above[0] : 0;
  return frames ? eat(frame, frames - 1) + frame[0] : 0;
}

static int l_eat(lua_State *L) {
  lua_pushinteger(L, eat(NULL, (int)luaL_checkinteger(L, 1)));
  return 1;
}

/* Runs the code in a child; its output on stderr is left in `said`.  Returns its wait status. */
static int run_child(const char *code, char *said, size_t size) {
  int ends[2], status;
  check(pipe(ends) == 0);
  pid_t child = fork();
  check(child >= 0);
  if (child == 0) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    lua_State *L = open_state(NULL);
    lua_register(L, "eat", l_eat);
    run(L, code);
    _exit(0);
  }
  close(ends[1]);
  size_t length = 0;
  for (ssize_t n; (n = read(ends[0], said + length, size - 1 - length)) > 0;)
    length += (size_t)n;
  said[length] = 0;
  close(ends[0]);
  check(waitpid(child, &status, 0) == child);
  return status;
}

static void names_the_greenlet(const char *code, const char *name) {
  char said[4096];
  int status = run_child(code, said, sizeof said);
  check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  check(strstr(said, "C stack overflow in greenlet") != NULL);
  check(strstr(said, name) != NULL);
}

int main(void) {
  char said[4096];
  limit_time(60);
  check(run_child("moonlet.spawn(eat, 1000):get()", said, sizeof said) == 0);
  names_the_greenlet("moonlet.spawn(eat, 4000):get()", "Greenlet-1");
  names_the_greenlet("local g = moonlet.spawn(function()\n"
                     "  ('x'):gsub('x', function() moonlet.sleep(0) eat(4000) end)\n"
                     "end)\n"
                     "g.name = 'glutton'\n"
                     "g:join()",
                     "glutton");
  setenv("MOONLET_STACK_KB", "16384", 1);
  check(run_child("moonlet.spawn(eat, 4000):get()", said, sizeof said) == 0);
  return 0;
}
