/*
 * main.c: the command `moonlet`. It takes the command line of `lua`, runs the script in the main
 * greenlet, and has a few options of its own (see moonlet.1). The interactive mode is in repl.c.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "hub.h"
#include "moonlet.h"
#include "protect.h"
#include "repl.h"
#include "state.h"

/* Percent by which the heap grows until young garbage is looked for, and until all is.  Each time
   the collector looks at every thread too: where they are many, lua's 20 and 100 are too few. */
#define YOUNG_GROWTH 50
#define WHOLE_GROWTH 150

/* What the command line asks for. */
struct options {
  int script;         /* index of the script in argv; argc when there is none */
  bool runs_code;     /* -e was given, so standard input is not the program */
  bool interactive;   /* -i */
  bool version;       /* -v, or implied by -i */
  bool no_env;        /* -E */
  bool stats;         /* --stats */
  double watchdog;    /* --watchdog: seconds, 0 for none */
  const char *monkey; /* --monkey: the list of what to patch, NULL for nothing */
};

struct command {
  struct options options;
  int argc;
  char **argv;
};

static const char help_text[] =
    "usage: moonlet [options] [script [args]]\n"
    "Options of lua:\n"
    "  -e code               run the string 'code'\n"
    "  -l mod, -l name=mod   require 'mod' into the global 'mod' or 'name'\n"
    "  -i                    go on interactively after the script\n"
    "  -v                    print the version\n"
    "  -E                    ignore Lua's environment variables\n"
    "  -W                    turn warnings on\n"
    "  --                    end of the options\n"
    "  -                     end of the options; the script is standard input\n"
    "Options of Moonlet:\n"
    "  --monkey[=list]       make blocking functions cooperative before anything loads:\n"
    "                        all of them but c, or a list of socket,ssl,os,io,select,c\n"
    "  --watchdog[=seconds]  report a greenlet that holds the hub longer (default 1)\n"
    "  --stats               print the runtime's counters at exit\n"
    "  --help, --version     print this text or the version, and end\n";

/* ---- Messages ---- */

static void print_version(void) {
  printf("Moonlet %s  Copyright (C) 2026 The Moonlet authors, %s\n", MOONLET_VERSION, LUA_RELEASE);
  fflush(stdout);
}

void command_complain(lua_State *L, const char *prefix) {
  const char *message = lua_tostring(L, -1);
  fprintf(stderr, "%s%s\n", prefix, message ? message : "(error object is not a string)");
  fflush(stderr);
  lua_pop(L, 1);
}

/* Every step of the command passes its status through here, so that no failure stays silent. */
static bool succeeded(lua_State *L, int status) {
  if (status != LUA_OK)
    command_complain(L, "moonlet: ");
  return status == LUA_OK;
}

/* "Timeout: 1 second": an error of one of our own classes, whose text alone says too little. */
static void name_error(lua_State *L) {
  class_push_name(L, 1);
  luaL_tolstring(L, 1, NULL);
  lua_pushfstring(L, "%s: %s", lua_tostring(L, -2), lua_tostring(L, -1));
  lua_replace(L, 1);
}

/*
 * Message handler. An error object that can print itself keeps its own text, without
 * traceback, unless it is of our own making. An error that our functions only passed on keeps
 * the traceback of where it came from.
 */
static int add_traceback(lua_State *L) {
  lua_settop(L, 1);
  protect_push_traceback(L, 1, L, 1);
  if (class_kind_of(L, 1)) {
    name_error(L);
  } else if (!lua_isstring(L, 1)) {
    if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
      return 1;
    lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
    lua_replace(L, 1);
  }
  lua_pushfstring(L, "%s\n%s", lua_tostring(L, 1), lua_tostring(L, 2));
  return 1;
}

int command_call(lua_State *L, int nargs, int nresults) {
  int handler = lua_gettop(L) - nargs;
  lua_pushcfunction(L, add_traceback);
  lua_insert(L, handler);
  int status = lua_pcall(L, nargs, nresults, handler);
  lua_remove(L, handler);
  return status;
}

/* ---- The command line ---- */

/* Whether arg is the long option `name`, alone or with a value after "=". */
static bool has_name(const char *arg, const char *name, const char **value) {
  size_t length = strlen(name);
  if (strncmp(arg, name, length) != 0 || (arg[length] != '\0' && arg[length] != '='))
    return false;
  *value = arg[length] == '=' ? arg + length + 1 : NULL;
  return true;
}

static bool can_patch(const char *name, size_t length) {
  static const char *const names[] = {"all", "socket", "ssl", "os", "io", "select", "c"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0)
      return true;
  return false;
}

/* Whether the list names, between commas, nothing but what moonlet.monkey can patch. */
static bool is_patch_list(const char *list) {
  for (;;) {
    size_t length = strcspn(list, ",");
    if (!can_patch(list, length))
      return false;
    if (list[length] == '\0')
      return true;
    list += length + 1;
  }
}

/* Returns what is wrong with the option, as a format for its name, or NULL. */
static const char *read_long_option(struct options *o, const char *arg) {
  const char *value;
  if (has_name(arg, "--monkey", &value)) {
    o->monkey = value ? value : "all";
    if (!is_patch_list(o->monkey))
      return "'%s' does not list what can be patched";
  } else if (has_name(arg, "--watchdog", &value)) {
    char *end = "";
    o->watchdog = value ? strtod(value, &end) : 1;
    if (!(o->watchdog > 0) || *end != '\0')
      return "'%s' needs a positive number of seconds";
  } else if (strcmp(arg, "--stats") == 0) {
    o->stats = true;
  } else if (strcmp(arg, "--help") == 0) {
    fputs(help_text, stdout);
    exit(EXIT_SUCCESS);
  } else if (strcmp(arg, "--version") == 0) {
    print_version();
    exit(EXIT_SUCCESS);
  } else {
    return "unrecognized option '%s'";
  }
  return NULL;
}

/* -e and -l have an argument: the rest of the word, or the next one. */
static bool takes_argument(const char *arg) { return arg[1] == 'e' || arg[1] == 'l'; }

/* Returns what is wrong with the option, as a format for its name, or NULL. */
static const char *read_short_option(struct options *o, const char *arg, const char *next) {
  if (takes_argument(arg)) {
    o->runs_code |= arg[1] == 'e';
    bool missing = arg[2] == '\0' && (!next || next[0] == '-');
    return missing ? "'%s' needs argument" : NULL;
  }
  if (!strchr("ivEW", arg[1]) || arg[2] != '\0')
    return "unrecognized option '%s'";
  o->interactive |= arg[1] == 'i';
  o->version |= arg[1] == 'v' || arg[1] == 'i';
  o->no_env |= arg[1] == 'E';
  return NULL;
}

static void fail_usage(const char *complaint, const char *arg) {
  fputs("moonlet: ", stderr);
  fprintf(stderr, complaint, arg);
  fprintf(stderr, "\n%s", help_text);
  exit(EXIT_FAILURE);
}

/* Find out what is asked for without doing any of it: a bad option must stop all the others. */
static void read_options(struct options *o, int argc, char **argv) {
  int i = 1;
  for (; i < argc && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
    const char *arg = argv[i];
    if (strcmp(arg, "--") == 0) {
      i++;
      break;
    }
    bool is_long = arg[1] == '-';
    const char *complaint =
        is_long ? read_long_option(o, arg) : read_short_option(o, arg, argv[i + 1]);
    if (complaint)
      fail_usage(complaint, arg);
    if (takes_argument(arg) && arg[2] == '\0')
      i++;
  }
  o->script = i < argc ? i : argc;
}

/* ---- Moonlet's own options, in Lua ---- */

static const char monkey_code[] =
    "local monkey = require 'moonlet.monkey'\n"
    "for name in string.gmatch(..., '[^,]+') do monkey['patch_' .. name]() end\n";

static const char watchdog_code[] = "local moonlet = require 'moonlet'\n"
                                    "moonlet.watchdog(...)\n"
                                    "moonlet.signal('SIGUSR1', moonlet.run_info)\n";

/* Keeps what it needs in locals, since a script may replace every global. */
static const char stats_code[] =
    "local pairs, sort, format, stderr = pairs, table.sort, string.format, io.stderr\n"
    "local stats, exit = require('moonlet').stats, os.exit\n"
    "local function print_stats()\n"
    "  local counters, names = stats(), {}\n"
    "  for name in pairs(counters) do names[#names + 1] = name end\n"
    "  sort(names)\n"
    "  for i = 1, #names do\n"
    "    stderr:write(format('%-24s %s\\n', names[i], counters[names[i]]))\n"
    "  end\n"
    "end\n"
    "function os.exit(...) print_stats() return exit(...) end\n"
    "return print_stats\n";

static const char stats_key = 0; /* its address is the registry key of print_stats */

static void load(lua_State *L, const char *code, const char *name) {
  if (luaL_loadbuffer(L, code, strlen(code), name) != LUA_OK)
    lua_error(L);
}

/* Runs protected, before anything of the user's does. */
static int set_up(lua_State *L) {
  const struct options *o = lua_touserdata(L, 1);
  if (o->stats) {
    load(L, stats_code, "=--stats");
    lua_call(L, 0, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &stats_key);
  }
  if (o->watchdog > 0) {
    load(L, watchdog_code, "=--watchdog");
    lua_pushnumber(L, o->watchdog);
    lua_call(L, 1, 0);
  }
  if (o->monkey) {
    load(L, monkey_code, "=--monkey");
    lua_pushstring(L, o->monkey);
    lua_call(L, 1, 0);
  }
  return 0;
}

/* ---- What lua does ---- */

/* The script is arg[0], its arguments follow, what stands before it has negative indices. */
static void set_arg(lua_State *L, const struct command *c) {
  int script = c->options.script < c->argc ? c->options.script : 0;
  lua_createtable(L, c->argc - script, script + 1);
  for (int i = 0; i < c->argc; i++) {
    lua_pushstring(L, c->argv[i]);
    lua_rawseti(L, -2, i - script);
  }
  lua_setglobal(L, "arg");
}

/* Run the chunk just loaded, or report why it could not be. */
static bool run_chunk(lua_State *L, int status) {
  return succeeded(L, status) && succeeded(L, command_call(L, 0, 0));
}

static bool run_string(lua_State *L, const char *code, const char *name) {
  return run_chunk(L, luaL_loadbuffer(L, code, strlen(code), name));
}

/* LUA_INIT is code or, after "@", the name of a file; the variable with the version goes first. */
static bool run_init(lua_State *L) {
  static const char *const names[] = {"=LUA_INIT" LUA_VERSUFFIX, "=LUA_INIT"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    const char *init = getenv(names[i] + 1);
    if (init && init[0] == '@')
      return run_chunk(L, luaL_loadfile(L, init + 1));
    if (init)
      return run_string(L, init, names[i]);
  }
  return true;
}

/* -l: `what` is "module" or "global=module". */
static bool require_global(lua_State *L, const char *what) {
  const char *equals = strchr(what, '=');
  lua_pushglobaltable(L);
  lua_pushlstring(L, what, equals ? (size_t)(equals - what) : strlen(what));
  lua_getglobal(L, "require");
  lua_pushstring(L, equals ? equals + 1 : what);
  if (!succeeded(L, command_call(L, 1, 1)))
    return false;
  lua_settable(L, -3);
  lua_pop(L, 1);
  return true;
}

/* Those of the options that act, in their order. */
static bool run_options(lua_State *L, const struct command *c) {
  for (int i = 1; i < c->options.script; i++) {
    const char *arg = c->argv[i];
    if (arg[1] == 'W')
      lua_warning(L, "@on", 0);
    if (!takes_argument(arg))
      continue;
    const char *value = arg[2] != '\0' ? arg + 2 : c->argv[++i];
    if (!(arg[1] == 'e' ? run_string(L, value, "=(command line)") : require_global(L, value)))
      return false;
  }
  return true;
}

/* The arguments as they stand in `arg` now: what ran before the script may have changed them. */
static int push_args(lua_State *L) {
  if (lua_getglobal(L, "arg") != LUA_TTABLE)
    luaL_error(L, "'arg' is not a table");
  int table = lua_gettop(L);
  int count = (int)luaL_len(L, table);
  luaL_checkstack(L, count + 3, "too many arguments to script");
  for (int i = 1; i <= count; i++)
    lua_rawgeti(L, table, i);
  lua_remove(L, table);
  return count;
}

static bool run_script(lua_State *L, char **argv) {
  bool from_stdin = strcmp(argv[0], "-") == 0 && strcmp(argv[-1], "--") != 0;
  if (!succeeded(L, luaL_loadfile(L, from_stdin ? NULL : argv[0])))
    return false;
  int count = push_args(L);
  return succeeded(L, command_call(L, count, 0));
}

/* What comes after the options: the script, the interactive mode, standard input, or nothing. */
static bool run_program(lua_State *L, const struct command *c) {
  const struct options *o = &c->options;
  bool has_script = o->script < c->argc;
  bool ends_here = has_script || o->runs_code || o->version;
  if (has_script && !run_script(L, c->argv + o->script))
    return false;
  if (o->interactive || (!ends_here && isatty(STDIN_FILENO))) {
    if (!o->version)
      print_version();
    repl_run(L);
    return true;
  }
  return ends_here || run_chunk(L, luaL_loadfile(L, NULL));
}

/* ---- The life of the command ---- */

/* Everything between the state's birth and the end of the program; true if all went well. */
static int run_command(lua_State *L) {
  struct command *c = lua_touserdata(L, 1);
  luaL_checkversion(L);
  if (c->options.version)
    print_version();
  if (c->options.no_env) {
    lua_pushboolean(L, true);
    lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
  }
  luaL_openlibs(L);
  lua_gc(L, LUA_GCGEN, YOUNG_GROWTH, WHOLE_GROWTH);
  set_arg(L, c);
  if (moonlet_open(L, NULL) != LUA_OK)
    return lua_error(L);
  hub_catch_sigint(L);
  lua_pushcfunction(L, set_up);
  lua_pushlightuserdata(L, &c->options);
  bool ok = succeeded(L, lua_pcall(L, 1, 0, 0)) && (c->options.no_env || run_init(L)) &&
            run_options(L, c) && run_program(L, c);
  lua_pushboolean(L, ok);
  return 1;
}

/* A standard stream that is closed must not come to stand for one of the runtime's descriptors. */
static void fill_standard_streams(void) {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
    if (fcntl(fd, F_GETFD) < 0)
      open("/dev/null", O_RDWR); /* the lowest free descriptor is fd */
}

int main(int argc, char **argv) {
  struct command c = {.argc = argc, .argv = argv};
  fill_standard_streams();
  read_options(&c.options, argc, argv);
  lua_State *L = state_new();
  if (!L) {
    fputs("moonlet: not enough memory for a Lua state\n", stderr);
    return EXIT_FAILURE;
  }
  lua_pushcfunction(L, run_command);
  lua_pushlightuserdata(L, &c);
  bool ok = succeeded(L, lua_pcall(L, 1, 1, 0)) && lua_toboolean(L, -1);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &stats_key) == LUA_TFUNCTION)
    ok = succeeded(L, lua_pcall(L, 0, 0, 0)) && ok;
  moonlet_close(L); /* the end of the program is the end of all greenlets */
  state_close(L);
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
