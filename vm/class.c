/* class.c: one class system for userdata and tables (see class.h). */
#include "class.h"

#include <string.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

static const char kind_key; /* class[&kind_key]: light userdata, its kind */

static const struct class_kind object_kind;

static void *checked(lua_State *L, const struct class_kind *kind, int arg) {
  for (const struct class_kind *k = class_kind_of(L, arg); k; k = k->base)
    if (k == kind)
      return lua_touserdata(L, arg);
  return NULL;
}

/* The metatable of an instance is its class; only classes have a kind there. */
const struct class_kind *class_kind_of(lua_State *L, int arg) {
  if (!lua_getmetatable(L, arg))
    return NULL;
  lua_rawgetp(L, -1, &kind_key);
  const struct class_kind *kind = lua_touserdata(L, -1);
  lua_pop(L, 2);
  return kind;
}

void *class_test_slowly(lua_State *L, int arg, const struct class_kind *kind) {
  return lua_type(L, arg) == LUA_TUSERDATA ? checked(L, kind, arg) : NULL;
}

void *class_check_slowly(lua_State *L, int arg, const struct class_kind *kind) {
  void *object = class_test_slowly(L, arg, kind);
  if (!object)
    luaL_typeerror(L, arg, kind->name);
  return object;
}

bool class_is_class(lua_State *L, int arg) {
  if (lua_type(L, arg) != LUA_TTABLE)
    return false;
  bool is = lua_rawgetp(L, arg, &kind_key) == LUA_TLIGHTUSERDATA;
  lua_pop(L, 1);
  return is;
}

void class_push_name(lua_State *L, int arg) {
  if (luaL_getmetafield(L, arg, "__name") == LUA_TNIL)
    lua_pushstring(L, luaL_typename(L, arg));
}

/* ---- errors of initialisers ---- */

int class_argerror(lua_State *L, int arg, const char *message) {
  lua_Debug ar;
  lua_pushliteral(L, "");
  for (int level = 1; lua_rawlen(L, -1) == 0 && lua_getstack(L, level, &ar); level++) {
    lua_pop(L, 1);
    luaL_where(L, level);
  }
  class_push_name(L, 1);
  lua_pushfstring(L, "%sbad argument #%d to '%s' (%s)", lua_tostring(L, -2), arg - 1,
                  lua_tostring(L, -1), message);
  return lua_error(L);
}

int class_typeerror(lua_State *L, int arg, const char *expected) {
  const char *got = luaL_getmetafield(L, arg, "__name") == LUA_TSTRING ? lua_tostring(L, -1)
                    : lua_isnone(L, arg)                               ? "no value"
                                                                       : luaL_typename(L, arg);
  return class_argerror(L, arg, lua_pushfstring(L, "%s expected, got %s", expected, got));
}

lua_Number class_optnumber(lua_State *L, int arg, lua_Number otherwise) {
  if (lua_isnoneornil(L, arg))
    return otherwise;
  int is;
  lua_Number value = lua_tonumberx(L, arg, &is);
  if (!is)
    class_typeerror(L, arg, "number");
  if (value != value)
    class_argerror(L, arg, "not a number");
  return value;
}

/* ---- fields of userdata ---- */

/* Upvalues of both: the class, the table of computed fields, the kind. */
enum { UP_CLASS = 1, UP_FIELDS, UP_KIND };

/* The computed field whose name is at 2, of the object at 1; or NULL. */
static const struct class_field *find_field(lua_State *L, void **object) {
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(UP_FIELDS));
  const struct class_field *field = lua_touserdata(L, -1);
  lua_pop(L, 1);
  if (field)
    *object = class_check(L, 1, lua_touserdata(L, lua_upvalueindex(UP_KIND)));
  return field;
}

/* First the user's own fields, then methods, computed fields, what the classes above have. */
static int l_index(lua_State *L) {
  void *object;
  if (unlikely(lua_type(L, 1) != LUA_TUSERDATA))
    return luaL_typeerror(L, 1, "userdata");
  if (unlikely(lua_getiuservalue(L, 1, CLASS_FIELDS) == LUA_TTABLE)) {
    lua_pushvalue(L, 2);
    if (lua_rawget(L, -2) != LUA_TNIL)
      return 1;
  }
  lua_pushvalue(L, 2);
  if (likely(lua_rawget(L, lua_upvalueindex(UP_CLASS)) != LUA_TNIL))
    return 1;
  const struct class_field *field = find_field(L, &object);
  lua_settop(L, 2);
  if (field)
    field->get(L, object);
  else
    lua_gettable(L, lua_upvalueindex(UP_CLASS));
  return 1;
}

static int l_newindex(lua_State *L) {
  void *object;
  luaL_checktype(L, 1, LUA_TUSERDATA);
  const struct class_field *field = find_field(L, &object);
  if (field) {
    if (!field->set)
      return luaL_error(L, "field '%s' of a %s cannot be set", field->name,
                        (class_push_name(L, 1), lua_tostring(L, -1)));
    field->set(L, object);
    return 0;
  }
  if (lua_getiuservalue(L, 1, CLASS_FIELDS) != LUA_TTABLE) {
    lua_settop(L, 3);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, CLASS_FIELDS);
  }
  lua_replace(L, 1);
  lua_rawset(L, 1);
  return 0;
}

/* Pushes a table: name -> light userdata of the computed field, of the kind and those above. */
static void push_field_table(lua_State *L, const struct class_kind *kind) {
  lua_newtable(L);
  for (; kind; kind = kind->base)
    for (const struct class_field *field = kind->fields; field && field->name; field++) {
      lua_pushstring(L, field->name);
      lua_pushvalue(L, -1);
      if (lua_rawget(L, -3) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_pushlightuserdata(L, (void *)field);
        lua_rawset(L, -3);
      } else {
        lua_pop(L, 2);
      }
    }
}

/* ---- making classes ---- */

/* Pushes an instance without a class. */
static void *allocate(lua_State *L, const struct class_kind *kind) {
  if (!kind->size)
    return lua_newtable(L), NULL;
  struct class_object *object = lua_newuserdatauv(L, kind->size, kind->values + 1);
  memset(object, 0, kind->size);
  object->kind = kind;
  if (kind->init)
    kind->init(L, object);
  return object;
}

static int constructed(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  lua_settop(L, 2);
  return 1;
}

/***
 * Object(...): a new object of the class, initialised by its method new.
 */
static int l_construct(lua_State *L) {
  lua_rawgetp(L, 1, &kind_key);
  const struct class_kind *kind = lua_touserdata(L, -1);
  lua_pop(L, 1);
  int count = lua_gettop(L) - 1;
  allocate(L, kind);
  lua_insert(L, 2);
  lua_pushvalue(L, 1);
  lua_setmetatable(L, 2);
  lua_getfield(L, 1, "new");
  lua_insert(L, 3);
  lua_pushvalue(L, 2);
  lua_insert(L, 4);
  lua_callk(L, count + 1, 0, 0, constructed);
  return constructed(L, LUA_OK, 0);
}

static int l_class_tostring(lua_State *L) {
  lua_pushliteral(L, "__name");
  lua_rawget(L, 1);
  lua_pushfstring(L, "class %s", lua_tostring(L, -1));
  return 1;
}

/* Makes the class at the top of the stack a subclass of the one below it (nil: the root). */
static void finish_class(lua_State *L, const struct class_kind *kind) {
  int class = lua_gettop(L);
  lua_pushlightuserdata(L, (void *)kind);
  lua_rawsetp(L, class, &kind_key);
  if (kind->size) {
    push_field_table(L, kind);
    const char *const names[] = {"__index", "__newindex"};
    for (int i = 0; i < 2; i++) {
      lua_pushvalue(L, class);
      lua_pushvalue(L, class + 1);
      lua_pushlightuserdata(L, (void *)kind);
      lua_pushcclosure(L, i ? l_newindex : l_index, 3);
      lua_setfield(L, class, names[i]);
    }
    lua_pop(L, 1);
  } else {
    lua_pushvalue(L, class);
    lua_setfield(L, class, "__index");
  }
  lua_pushvalue(L, class - 1);
  lua_setfield(L, class, "super");
  lua_createtable(L, 0, 3);
  lua_pushvalue(L, class - 1);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, l_construct);
  lua_setfield(L, -2, "__call");
  lua_pushcfunction(L, l_class_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_setmetatable(L, class);
}

/* Metamethods are looked up raw, so a subclass needs copies of them; with copies of all
   methods they are found sooner too. */
static void copy_members(lua_State *L, int from, int to, bool all) {
  for (lua_pushnil(L); lua_next(L, from); lua_pop(L, 1))
    if (lua_type(L, -2) == LUA_TSTRING && (all || strncmp(lua_tostring(L, -2), "__", 2) == 0)) {
      lua_pushvalue(L, -2);
      lua_pushvalue(L, -2);
      lua_rawset(L, to);
    }
}

void class_push(lua_State *L, const struct class_kind *kind) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, kind) == LUA_TTABLE)
    return;
  lua_pop(L, 1);
  luaL_checkstack(L, 12, NULL);
  if (kind == &object_kind)
    lua_pushnil(L);
  else
    class_push(L, kind->base ? kind->base : &object_kind);
  int base = lua_gettop(L);
  lua_newtable(L);
  if (kind != &object_kind)
    copy_members(L, base, base + 1, true);
  finish_class(L, kind);
  lua_pushstring(L, kind->name);
  lua_setfield(L, base + 1, "__name");
  if (kind->methods)
    luaL_setfuncs(L, kind->methods, 0);
  lua_pushvalue(L, base + 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, kind);
  lua_remove(L, base);
}

void *class_new(lua_State *L, const struct class_kind *kind) {
  void *object = allocate(L, kind);
  if (unlikely(lua_rawgetp(L, LUA_REGISTRYINDEX, kind) != LUA_TTABLE)) {
    lua_pop(L, 1);
    class_push(L, kind);
  }
  lua_setmetatable(L, -2);
  return object;
}

void *class_new_from(lua_State *L, const struct class_kind *kind, lua_State *from, int index) {
  void *object = allocate(L, kind);
  lua_pushvalue(from, index);
  lua_xmove(from, L, 1);
  lua_setmetatable(L, -2);
  return object;
}

/* ---- the root class ---- */

/***
 * Object:extend([name]): a new class below this one.
 * Functions set in it are methods of its instances; `__` names are metamethods.
 * @generic T
 * @param self T
 * @param name? string  for tostring
 * @return T # of the same type as this class, to annotations
 */
static int l_extend(lua_State *L) {
  luaL_argexpected(L, class_is_class(L, 1), 1, "class");
  const char *name = luaL_optstring(L, 2, NULL);
  lua_rawgetp(L, 1, &kind_key);
  const struct class_kind *kind = lua_touserdata(L, -1);
  lua_settop(L, 1);
  lua_newtable(L);
  copy_members(L, 1, 2, false);
  finish_class(L, kind);
  if (name) {
    lua_pushstring(L, name);
    lua_setfield(L, 2, "__name");
  }
  if (lua_getfield(L, 2, "__extend") == LUA_TFUNCTION) {
    lua_pushvalue(L, 2);
    lua_call(L, 1, 0);
  }
  lua_settop(L, 2);
  return 1;
}

/***
 * Object:is(class): whether the object's class is that one or one below it.
 * @param class Object
 * @return boolean
 */
static int l_is(lua_State *L) {
  luaL_argexpected(L, class_is_class(L, 2), 2, "class");
  lua_settop(L, 2);
  if (!lua_getmetatable(L, 1))
    return lua_pushboolean(L, 0), 1;
  while (lua_type(L, 3) == LUA_TTABLE) {
    if (lua_rawequal(L, 2, 3))
      return lua_pushboolean(L, 1), 1;
    lua_pushliteral(L, "super");
    lua_rawget(L, 3);
    lua_replace(L, 3);
  }
  lua_pushboolean(L, 0);
  return 1;
}

/***
 * Object:new(...): the initialiser, called with the object and the constructor's arguments.
 * A subclass has its own, which calls that of the class above: `Class.super.new(self, ...)`.
 */
static int l_new(lua_State *L) {
  (void)L;
  return 0;
}

static int l_tostring(lua_State *L) {
  class_push_name(L, 1);
  lua_pushfstring(L, "<%s %p>", lua_tostring(L, -1), lua_topointer(L, 1));
  return 1;
}

static const luaL_Reg object_methods[] = {
    {"extend", l_extend}, {"is", l_is}, {"new", l_new}, {"__tostring", l_tostring}, {NULL, NULL}};

/***
 * @module moonlet.class
 * The root of all classes.
 * @return Object
 */

/***
 * @class moonlet.class.Object
 * What all classes have.  Calling a class makes an object of it:
 *
 *     local Counter = Object:extend("Counter")
 *
 *     function Counter:new(first)
 *       self.count = first
 *     end
 *
 *     local counter = Counter(1)
 *
 * Objects of the library may be given further fields, and their classes subclasses.
 * @field super Object  the class above
 */
static const struct class_kind object_kind = {.name = "Object", .methods = object_methods};

int luaopen_moonlet_class(lua_State *L) {
  class_push(L, &object_kind);
  return 1;
}
