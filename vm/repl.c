/*
 * repl.c: the interactive mode. It waits for input as a greenlet does, so the others run while the
 * user thinks. Where readline is there it edits lines on a terminal, by its callback interface.
 */
#include "repl.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ev.h>
#include <lauxlib.h>

#include "moonlet.h"

/* Block until input can be read; false when there is no input that could be. */
static bool wait_input(lua_State *L) {
  return fcntl(STDIN_FILENO, F_GETFD) >= 0 && moonlet_wait_fd(L, STDIN_FILENO, EV_READ, -1) > 0;
}

/*
 * Push a line, or return false at the end of input. Without an editor: byte by byte from an
 * unbuffered stdin. Nothing is read ahead, so io.read in a line gets the input that follows it.
 */
static bool read_plain(lua_State *L, const char *prompt) {
  fputs(prompt, stdout);
  fflush(stdout);
  luaL_Buffer line;
  luaL_buffinit(L, &line);
  int c = EOF;
  while (wait_input(L) && (c = getc(stdin)) != EOF && c != '\n')
    luaL_addchar(&line, (char)c);
  luaL_pushresult(&line);
  return c == '\n' || lua_rawlen(L, -1) > 0;
}

#ifdef MOONLET_READLINE

#include <readline/history.h>
#include <readline/readline.h>

enum { INDEX_CHAIN_LIMIT = 10, HISTORY_LINES = 1000 };

/* ---- Completion of globals, fields and methods, which calls no metamethod ---- */

static lua_State *completion_state;

/* Replace the value on top by its __index; false when it has none, or after too many. */
static bool go_to_index(lua_State *L, int hops) {
  if (hops > INDEX_CHAIN_LIMIT || luaL_getmetafield(L, -1, "__index") == LUA_TNIL)
    return false;
  lua_remove(L, -2);
  return true;
}

/* Replace the value on top by its field; false when it has no such field. */
static bool go_to_field(lua_State *L, const char *name, size_t len) {
  int hops = 0;
  do {
    if (!lua_istable(L, -1))
      continue;
    lua_pushlstring(L, name, len);
    if (lua_rawget(L, -2) != LUA_TNIL) {
      lua_remove(L, -2);
      return true;
    }
    lua_pop(L, 1);
  } while (go_to_index(L, ++hops));
  return false;
}

/* Append to `list` the keys of the table on top that begin with `start`, the end of `text`. */
static void add_names(lua_State *L, int list, const char *text, const char *start) {
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    if (!name || strncmp(name, start, strlen(start)) != 0)
      continue;
    lua_pushfstring(L, "%s%s", lua_pushlstring(L, text, (size_t)(start - text)), name);
    lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
    lua_pop(L, 1);
  }
}

/* Protected, with a text as "a.b:c": returns the list of what it may become, or nothing. */
static int list_matches(lua_State *L) {
  const char *text = lua_tostring(L, 1), *start = text;
  lua_newtable(L);
  lua_pushglobaltable(L);
  for (size_t len; start[len = strcspn(start, ".:")] != '\0'; start += len + 1)
    if (!go_to_field(L, start, len))
      return 0;
  int hops = 0;
  do {
    if (lua_istable(L, -1))
      add_names(L, 2, text, start);
  } while (go_to_index(L, ++hops));
  lua_settop(L, 2);
  return 1;
}

/* For readline, which frees what it gets: the first match (state 0), the next ones, NULL. */
static char *next_match(const char *text, int state) {
  static int index, top;
  lua_State *L = completion_state;
  if (state == 0) {
    index = 0;
    top = lua_gettop(L);
    lua_pushcfunction(L, list_matches);
    lua_pushstring(L, text);
    lua_pcall(L, 1, 1, 0);
  }
  bool found = lua_istable(L, -1) && lua_rawgeti(L, -1, ++index) == LUA_TSTRING;
  char *match = found ? strdup(lua_tostring(L, -1)) : NULL;
  lua_settop(L, match ? -2 : top);
  return match;
}

static char **complete(const char *text, int start, int end) {
  (void)start, (void)end;
  rl_attempted_completion_over = 1;
  rl_completion_append_character = '\0';
  return rl_completion_matches(text, next_match);
}

/* ---- History, in a file that gets each line at once: the program may end at any line ---- */

static char history_file[4096];

static void open_history(const char *home) {
  stifle_history(HISTORY_LINES);
  if (!home)
    return;
  snprintf(history_file, sizeof history_file, "%s/.moonlet_history", home);
  read_history(history_file);
  write_history(history_file); /* append_history makes no file, and bounds none */
}

static void remember(const char *line) {
  HIST_ENTRY *last = history_length > 0 ? history_get(history_base + history_length - 1) : NULL;
  if (line[0] == '\0' || (last && strcmp(last->line, line) == 0))
    return;
  add_history(line);
  if (history_file[0] != '\0')
    append_history(1, history_file);
}

static bool editing; /* readline holds the terminal */
static char *edited;

static void open_editor(lua_State *L) {
  completion_state = L;
  rl_readline_name = "moonlet";
  rl_basic_word_break_characters = " \t\n\"'`@$><=;|&{}()[]+-*/%^~#,";
  rl_attempted_completion_function = complete;
  rl_catch_signals = 0;              /* SIGINT is the hub's */
  rl_persistent_signal_handlers = 1; /* that leaves SIGWINCH, which comes while we wait */
  open_history(getenv("HOME"));
}

static void take_line(char *line) {
  rl_callback_handler_remove();
  editing = false;
  edited = line;
}

/* Push a line, or return false at the end of input. */
static bool edit_line(lua_State *L, const char *prompt) {
  editing = true;
  edited = NULL;
  rl_callback_handler_install(prompt, take_line);
  while (editing && wait_input(L))
    rl_callback_read_char();
  if (!edited)
    return false;
  remember(edited);
  lua_pushstring(L, edited);
  free(edited);
  return true;
}

/* Give the terminal back if an error left edit_line in the middle. */
static void drop_line(void) {
  if (!editing)
    return;
  rl_point = rl_end; /* leave the terminal below the line */
  rl_redisplay();
  rl_free_line_state();
  rl_callback_sigcleanup();
  rl_callback_handler_remove();
  editing = false;
}

#else

static void open_editor(lua_State *L) { (void)L; }
static bool edit_line(lua_State *L, const char *prompt) { return read_plain(L, prompt); }
static void drop_line(void) {}

#endif

/* ---- Read, evaluate, print ---- */

enum input { LINE, NOTHING, END };

/* Protected, with the name and the default of a prompt: returns a line, or nothing at the end. */
static int read_line(lua_State *L) {
  lua_getglobal(L, lua_tostring(L, 1));
  const char *prompt = luaL_tolstring(L, lua_isnil(L, -1) ? 2 : -1, NULL);
  return isatty(STDIN_FILENO) ? edit_line(L, prompt) : read_plain(L, prompt);
}

/* Push a line if there is one. Ctrl-C leads to a new prompt, and so does any other error here. */
static enum input ask(lua_State *L, const char *prompt_name, const char *prompt) {
  int top = lua_gettop(L);
  lua_pushcfunction(L, read_line);
  lua_pushstring(L, prompt_name);
  lua_pushstring(L, prompt);
  int status = command_call(L, 2, LUA_MULTRET);
  drop_line();
  if (status == LUA_OK)
    return lua_gettop(L) > top ? LINE : END;
  fputc('\n', stdout);
  if (!strstr(lua_tostring(L, -1), "interrupted!"))
    command_complain(L, "");
  lua_settop(L, top);
  return NOTHING;
}

/* Push the chunk made of the prefix and the code at that index, or the error message. */
static bool load(lua_State *L, const char *prefix, int index) {
  const char *code = lua_pushfstring(L, "%s%s", prefix, lua_tostring(L, index));
  bool ok = luaL_loadbuffer(L, code, strlen(code), "=stdin") == LUA_OK;
  lua_remove(L, -2);
  return ok;
}

/* Whether the syntax error on top is only that the code has not ended yet. */
static bool is_incomplete(lua_State *L) {
  size_t len;
  const char *message = lua_tolstring(L, -1, &len);
  return len >= 5 && strcmp(message + len - 5, "<eof>") == 0;
}

/* Push the chunk of the line on top: an expression, or a statement that may need further lines. */
static bool load_chunk(lua_State *L) {
  int code = lua_gettop(L);
  if (load(L, "return ", code))
    return true;
  lua_settop(L, code);
  while (!load(L, "", code)) {
    enum input input = is_incomplete(L) ? ask(L, "_PROMPT2", ">> ") : END;
    if (input == END)
      command_complain(L, "");
    if (input != LINE)
      return false;
    lua_pushfstring(L, "%s\n%s", lua_tostring(L, code), lua_tostring(L, -1));
    lua_replace(L, code);
    lua_settop(L, code);
  }
  return true;
}

/* By the global `print`, which a script may have replaced. */
static void print_results(lua_State *L, int first) {
  int count = lua_gettop(L) - first + 1;
  if (count == 0)
    return;
  luaL_checkstack(L, LUA_MINSTACK, "too many results to print");
  lua_getglobal(L, "print");
  lua_insert(L, first);
  if (lua_pcall(L, count, 0, 0) != LUA_OK) {
    lua_pushfstring(L, "error calling 'print' (%s)", lua_tostring(L, -1));
    command_complain(L, "");
  }
}

void repl_run(lua_State *L) {
  setvbuf(stdin, NULL, _IONBF, 0);
  open_editor(L);
  int top = lua_gettop(L);
  enum input input;
  while ((input = ask(L, "_PROMPT", "> ")) != END) {
    if (input == LINE && lua_tostring(L, -1)[0] == '=') /* "=x" as of old */
      lua_pushfstring(L, "return %s", lua_tostring(L, -1) + 1);
    if (input == LINE && load_chunk(L)) {
      int first = lua_gettop(L);
      if (command_call(L, 0, LUA_MULTRET) == LUA_OK)
        print_results(L, first);
      else
        command_complain(L, "");
    }
    lua_settop(L, top);
  }
  fputc('\n', stdout);
}
