# Moonlet: build, test, install. `make help` lists what there is.

VERSION = 0.1.0

# ---- What a user may set (CC, CPPFLAGS and LDFLAGS too) -----------------------------------------

BUILD   = build
CFLAGS ?= -O2 -g
LIBFLAG = -shared
PARANOID =

PREFIX  = /usr/local
BINDIR  = $(PREFIX)/bin
INCDIR  = $(PREFIX)/include
LIBDIR  = $(PREFIX)/lib
MANDIR  = $(PREFIX)/share/man/man1
LUADIR  = $(PREFIX)/share/lua/5.4
DATADIR = $(PREFIX)/share/moonlet
CMODDIR = $(PREFIX)/lib/lua/5.4
INSTALL = install

# ---- Packages of Debian and its kin ------------------------------------------------------------

BUILD_PACKAGES = gcc libc6-dev make pkg-config liblua5.4-dev lua5.4 libev-dev libreadline-dev \
  libc-ares-dev libssl-dev node-llhttp libnghttp2-dev zlib1g-dev libwslay-dev nettle-dev \
  libzmq3-dev
TEST_PACKAGES  = lua-busted lua-lpeg lua-socket lua-sec lua-redis lua-wsapi lua-orbit redis-server \
  openssl curl nghttp2-client wrk netcat-openbsd python3-websockets node-ws lua-dkjson \
  lua-sql-postgres postgresql lua-sql-sqlite3 lua-ldap python3-zmq iproute2
LINT_PACKAGES  = clang clang-format clang-tidy lua-check
OTHER_PACKAGES = valgrind luarocks
BROWSER_PACKAGES = chromium chromium-driver fonts-dejavu-core # for `make browser`
PACKAGES       = $(BUILD_PACKAGES) $(TEST_PACKAGES) $(LINT_PACKAGES) $(OTHER_PACKAGES) \
  $(BROWSER_PACKAGES)

# $(call ensure,PACKAGES): installs them if one is missing; to check takes neither root nor network.
ensure = if command -v dpkg-query >/dev/null && \
  dpkg-query -W -f='$${db:Status-Status}\n' $(1) 2>&1 | grep -qv '^installed$$'; \
  then $(as_root) apt-get update -q && \
  $(as_root) apt-get install -q -y --no-install-recommends $(1); fi
as_root = $$([ "$$(id -u)" -eq 0 ] || echo sudo) env DEBIAN_FRONTEND=noninteractive

# ---- Lua and libev (others than pkg-config finds: LUA_CFLAGS=... LUA_LIBS=... LIBEV_INCDIR=...) --

PKG_CONFIG ?= pkg-config
OBJCOPY    ?= objcopy

LUA := $(shell for name in lua5.4 lua-5.4 lua54 lua; do \
  $(PKG_CONFIG) --exists "$$name >= 5.4 $$name < 5.5" 2>/dev/null && echo $$name && break; done)
about_lua   = $(if $(LUA),$(shell $(PKG_CONFIG) $(1) $(LUA)))
LUA_CFLAGS := $(if $(LUA_INCDIR),-I$(LUA_INCDIR),$(call about_lua,--cflags))
LUA_LIBS   := $(call about_lua,--libs)
LUA_STATIC := $(wildcard $(patsubst -l%,$(call about_lua,--variable=libdir)/lib%.a,\
  $(filter -l%,$(LUA_LIBS))))

EV_CFLAGS = $(if $(LIBEV_INCDIR),-I$(LIBEV_INCDIR))
EV_LIBS   = $(if $(LIBEV_LIBDIR),-L$(LIBEV_LIBDIR)) -lev

# $(call has_headers,HEADERS): a command that succeeds if the compiler finds them all.
has_headers = printf '\#include <%s>\n' $(1) | $(CC) $(ALL_CPPFLAGS) -E - >/dev/null 2>&1

# ---- Extensions: modules in shared objects of their own, which link a library --------------------

# stdlib/NAME/*.c become moonlet.NAME.core, where pkg-config finds the NAME_library, and the
# compiler the NAME_header of a library that pkg-config does not know, which is linked by NAME_libs.
# vm/modules.c has the list for the message of a build without one.
EXTENSIONS      = ares llhttp nghttp2 ssl wslay zlib zmq
ares_library    = libcares
nghttp2_library = libnghttp2
ssl_library     = openssl >= 3
wslay_library   = zlib nettle
wslay_header    = wslay/wslay.h
wslay_libs      = -lwslay
zlib_library    = zlib
zmq_library     = libzmq >= 4.3

# llhttp comes from Debian's node-llhttp as sources, which become part of the module; elsewhere as
# a library.
llhttp_library = libllhttp
LLHTTP_SOURCES := $(wildcard $(addprefix /usr/share/llhttp/,api.c http.c llhttp.c))
LLHTTP_INCDIR   = /usr/share/include/llhttp
llhttp_sources  = $(LLHTTP_SOURCES)
llhttp_cflags   = -I$(LLHTTP_INCDIR) -DLLHTTP_STRICT_MODE=1

about_library    = $(shell $(PKG_CONFIG) $(1) '$($(2)_library)' 2>/dev/null)
has_header       = $(if $($(1)_header),$(shell $(call has_headers,$($(1)_header)) && echo yes),yes)
EXTENSIONS_BUILT := $(foreach name,$(EXTENSIONS),$(if $(or $($(name)_sources),$(and \
  $(call about_library,--modversion,$(name)),$(call has_header,$(name)))),$(name)))
EXTENSION_CFLAGS := $(foreach name,$(EXTENSIONS_BUILT),\
  $(if $($(name)_sources),$($(name)_cflags),$(call about_library,--cflags,$(name))))

# ---- Flags -------------------------------------------------------------------------------------

ALL_CPPFLAGS = -Ivm -DMOONLET_VERSION='"$(VERSION)"' $(if $(PARANOID),-DMOONLET_PARANOID) \
  $(if $(READLINE),-DMOONLET_READLINE) $(LUA_CFLAGS) $(EV_CFLAGS) \
  $(EXTENSION_CFLAGS) $(CPPFLAGS)
ALL_CFLAGS   = -std=gnu11 -fPIC -fno-plt -fvisibility=hidden -pthread -Wall -Wextra -Wshadow \
  $(CFLAGS) $(if $(PARANOID),-O1)
SYSTEM_LIBS  = -lpthread -ldl -lm

READLINE := $(shell $(call has_headers,stdio.h readline/readline.h) && echo yes)

# ---- What is made of what ----------------------------------------------------------------------

PROGRAM_SOURCES := $(addprefix vm/,main.c repl.c jump_x86_64.S)
extension_sources = $(wildcard $(1:%=stdlib/%/*.c))
LIBRARY_SOURCES := $(filter-out $(PROGRAM_SOURCES) $(call extension_sources,$(EXTENSIONS)), \
  $(wildcard vm/*.c vm/*/*.c vm/switch_*.S stdlib/*.c stdlib/*/*.c))
TEST_SOURCES    := $(wildcard tests/*.c tests/bench/*.c)
LUA_SOURCES     := $(wildcard stdlib/*.lua stdlib/*/*.lua)
C_FILES         := $(wildcard $(patsubst %,%/*.[ch],vm vm/* stdlib stdlib/* tests tests/*))

# The command's Lua jumps by vm/jump_x86_64.S; sanitizers have to see every jump themselves.
JUMPS = $(if $(findstring -fsanitize,$(ALL_CFLAGS)),,$(JUMPS_$(firstword $(subst -, ,$(MACHINE)))))
JUMPS_x86_64 = -Wl,--wrap=_setjmp,--wrap=_longjmp,--wrap=__longjmp_chk
JUMP_OBJECT = $(call object,vm/jump_x86_64.S)
MACHINE := $(shell $(CC) -dumpmachine)

object = $(1:%=$(BUILD)/obj/%.o)
LIBRARY_OBJECTS := $(call object,$(LIBRARY_SOURCES))
PROGRAM_OBJECTS := $(call object,$(PROGRAM_SOURCES))
library_objects = $(patsubst /%,$(BUILD)/obj/%.o,$($(1)_sources))
EXTENSION_OBJECTS := $(call object,$(call extension_sources,$(EXTENSIONS_BUILT)))
TEST_SUPPORT    := $(call object,$(filter tests/support_%,$(TEST_SOURCES)))
TEST_PROGRAMS   := $(patsubst %.c,$(BUILD)/%,$(filter-out tests/support_%,$(TEST_SOURCES)))
LUA_FILES       := $(LUA_SOURCES:stdlib/%=$(BUILD)/lua/moonlet/%)
EXTENSION_FILES := $(EXTENSIONS_BUILT:%=$(BUILD)/lua/moonlet/%/core.so)

all: $(BUILD)/moonlet library module $(BUILD)/moonlet.pc ## Build everything (the default)
library: $(BUILD)/libmoonlet.a $(BUILD)/libmoonlet.so # for C programs
module: $(BUILD)/lua/moonlet.so $(LUA_FILES) $(EXTENSION_FILES) # for a plain lua5.4

# Objects depend on this file, which changes when the compiler or its flags do.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(LDFLAGS))' >$@.new
	@cmp -s $@.new $@ || $(call has_headers,lua.h ev.h) || { echo "$(needed)" >&2; exit 1; }
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@
needed = Moonlet needs a C compiler, pkg-config, Lua 5.4 and libev: 'make deps' installs them.

$(BUILD)/obj/%.o: % $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# The command holds the whole of liblua and exports it, as lua5.4 does: C modules bind to it.
# vm/jump_x86_64.S says why the order is this one.
$(BUILD)/moonlet: $(PROGRAM_OBJECTS) $(LIBRARY_OBJECTS)
	$(CC) $(LDFLAGS) -Wl,-E $(JUMPS) -o $@ $(JUMP_OBJECT) \
	  $(LUA_STATIC:%=-Wl$(comma)--whole-archive % -Wl$(comma)--no-whole-archive) \
	  $(filter-out $(JUMP_OBJECT),$^) $(if $(LUA_STATIC),,$(LUA_LIBS)) $(EV_LIBS) \
	  $(if $(READLINE),-lreadline) $(SYSTEM_LIBS)

comma = ,

# One object whose internal names are local, so that they cannot clash with a host's.
$(BUILD)/libmoonlet.a: $(LIBRARY_OBJECTS)
	$(LD) -r -o $(BUILD)/obj/libmoonlet.o $^
	$(OBJCOPY) --localize-hidden $(BUILD)/obj/libmoonlet.o
	rm -f $@
	$(AR) rcs $@ $(BUILD)/obj/libmoonlet.o

# It must stay, as the next one: threads and signal handlers run in it.
$(BUILD)/libmoonlet.so: $(LIBRARY_OBJECTS)
	$(CC) $(LDFLAGS) -shared -Wl,-soname,libmoonlet.so.0,-z,defs,-z,nodelete -o $@ $^ \
	  $(LUA_LIBS) $(EV_LIBS) $(SYSTEM_LIBS)
	ln -sf libmoonlet.so $@.0

# The program that loads it has liblua already.
$(BUILD)/lua/moonlet.so: $(LIBRARY_OBJECTS)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) $(LIBFLAG) -Wl,-z,nodelete -o $@ $^ $(EV_LIBS) $(SYSTEM_LIBS)

.SECONDEXPANSION:
$(EXTENSION_FILES): $(BUILD)/lua/moonlet/%/core.so: \
  $$(call object,$$(call extension_sources,$$*)) $$(call library_objects,$$*)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) $(LIBFLAG) -Wl,-z,nodelete -o $@ $^ \
	  $(if $($*_sources),,$(call about_library,--libs,$*)) $($*_libs)

# A library's sources, as they are.
$(BUILD)/obj/usr/%.o: /usr/% $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -w -c -o $@ $<

# Links, so that an edited module is in use at once.
$(BUILD)/lua/moonlet/%.lua: stdlib/%.lua
	@mkdir -p $(@D)
	ln -srf $< $@

$(BUILD)/moonlet.pc: vm/moonlet.pc.in FORCE
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@INCDIR@|$(INCDIR)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
	  -e 's|@LUA@|$(LUA)|' -e 's|@VERSION@|$(VERSION)|' $< >$@.new
	@mv -f $@.new $@

-include $(patsubst %.o,%.d,$(LIBRARY_OBJECTS) $(PROGRAM_OBJECTS) $(EXTENSION_OBJECTS) \
  $(call object,$(TEST_SOURCES)))

# ---- Tests -------------------------------------------------------------------------------------

# Modules that block, and those that wait where it is hard to be safe.
BLOCKING_MODULES = $(BUILD)/tests/callout/lazy.so $(BUILD)/tests/callout/now.so
PITFALL_MODULES = $(patsubst %,$(BUILD)/tests/pitfalls/%.so,thread locks libslow libnss_slow \
  $(if $(filter ssl,$(EXTENSIONS_BUILT)),secure))

# A test is linked with libmoonlet.a, or with what its first lines ask for: "shared-library" means
# libmoonlet.so; "sources: vm/a.c vm/b.S" those alone, whose internal functions it calls.
test-programs: $(TEST_PROGRAMS) $(BLOCKING_MODULES) $(PITFALL_MODULES)
$(BUILD)/tests/%: $(BUILD)/obj/tests/%.c.o $(TEST_SUPPORT) $(addprefix $(BUILD)/libmoonlet.,a so)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(tested) $(LUA_LIBS) $(EV_LIBS) $(SYSTEM_LIBS)

tested = $(or $(call object,$(shell sed -n '1,5s|.*sources: \(.*\) \*/|\1|p' tests/$*.c)), \
  $(if $(shell sed -n '1,5{/shared-library/p}' tests/$*.c),$(shared_library)),$(BUILD)/libmoonlet.a)
shared_library = -L$(BUILD) -Wl,-rpath,'$$ORIGIN/..' -lmoonlet

# Linked as others are: the calls bound late and checked, or all at once.
$(BUILD)/tests/callout/lazy.so: private linked = -fplt -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 \
  -Wl,-z,lazy,-rpath,'$$ORIGIN'
$(BUILD)/tests/callout/now.so: private linked = -Wl,-z,now
$(BLOCKING_MODULES): $(wildcard tests/callout/*) $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(LDFLAGS) $(linked) $(LIBFLAG) -o $@ \
	  $(filter %.c,$^)

# Each of one source; libnss_slow looks users up.
$(BUILD)/tests/pitfalls/libslow.so: private linked = -Wl,-soname,libslow.so
$(BUILD)/tests/pitfalls/libnss_slow.so: private linked = -Wl,-soname,libnss_slow.so.2 \
  -L$(BUILD)/tests/pitfalls -lslow -Wl,-rpath,'$$ORIGIN'
$(BUILD)/tests/pitfalls/libnss_slow.so: $(BUILD)/tests/pitfalls/libslow.so
$(BUILD)/tests/pitfalls/secure.so: private linked = $(call about_library,--libs,ssl)
# Its threads may outlive the Lua state.
$(BUILD)/tests/pitfalls/locks.so: private linked = -Wl,-z,nodelete
$(PITFALL_MODULES): $(BUILD)/tests/pitfalls/%.so: tests/pitfalls/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(LDFLAGS) $(LIBFLAG) -o $@ $< $(linked)

test: ## Run the C tests, the specs (under moonlet and under lua5.4) and the tutorial
	@$(call ensure,$(BUILD_PACKAGES) $(TEST_PACKAGES))
	@$(MAKE) --no-print-directory all test-programs
	@tests/ci/check $(BUILD) c specs plain tutorial hosts

tutorial: ## Run the tutorial's scripts and compare what they print
	@$(call ensure,$(BUILD_PACKAGES) lua-socket lua-dkjson)
	@$(MAKE) --no-print-directory all
	@$(BUILD)/moonlet scripts/tutorial/run.lua

browser: ## Use the chat's page in headless Chromium; pictures of it go to BUILD/browser
	@$(call ensure,$(BUILD_PACKAGES) $(TEST_PACKAGES) $(BROWSER_PACKAGES))
	@$(MAKE) --no-print-directory all
	@SPECS="$(wildcard tests/browser/*_spec.lua)" tests/ci/check $(BUILD) specs

SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer

sanitize: ## Run the C tests and the specs with gcc's address and undefined behaviour sanitizers
	@$(call ensure,$(BUILD_PACKAGES) $(TEST_PACKAGES))
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/sanitize CFLAGS="-O1 -g $(SANITIZE)" \
	  LDFLAGS="$(SANITIZE)" PARANOID=1 all test-programs
	@tests/ci/check $(BUILD)/sanitize c specs

VALGRIND = valgrind --quiet --error-exitcode=99 \
  $(addprefix --suppressions=,$(wildcard tests/valgrind.supp))

valgrind: ## Run the C tests and the specs (or only those in SPECS=...) under valgrind
	@$(call ensure,$(BUILD_PACKAGES) $(TEST_PACKAGES) valgrind)
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/valgrind CFLAGS="-O1 -g -DMOONLET_VALGRIND" \
	  all test-programs
	@WRAP="$(VALGRIND)" SPECS="$(SPECS)" LIMIT=900 tests/ci/check $(BUILD)/valgrind c specs

BENCH_FLOORS = $(addprefix $(BUILD)/tests/bench/,floor messages)

bench: all $(BENCH_FLOORS) ## Run the benchmarks: against bare loops over lua_resume
	@tests/bench/run $(BUILD)

bench-instructions: all $(BUILD)/tests/bench/floor ## Count instructions instead of time
	@$(call ensure,$(BUILD_PACKAGES) valgrind)
	@tests/bench/run $(BUILD) instructions

bench-report: $(BUILD)/bench.tsv $(BUILD)/bench/growth.tsv ## Plot growth, and peers of RESULTS=...
	@tests/bench/run $(BUILD) report $(RESULTS)

# Measured once for each build.
$(BUILD)/bench.tsv: tests/bench/times.lua $(BUILD)/moonlet $(BENCH_FLOORS) | module
	@tests/bench/run $(BUILD)
$(BUILD)/bench/growth.tsv: $(wildcard tests/bench/gro*.lua) $(BUILD)/bench.tsv
	@tests/bench/run $(BUILD) grow

# The floor holds liblua as the command does, so that they differ in nothing else.
$(BUILD)/tests/bench/floor: private LUA_LIBS := $(or $(LUA_STATIC),$(LUA_LIBS))
$(BUILD)/tests/bench/messages: private LUA_LIBS := $(call about_library,--libs,zmq)

ifneq ($(wildcard tests/fuzz/run),)
fuzz: all ## Run the fuzzers
	@tests/fuzz/run
endif

lint: ## Check the format of the C code, luacheck, clang's warnings and clang-tidy
	@$(call ensure,$(BUILD_PACKAGES) $(LINT_PACKAGES))
	@$(MAKE) --no-print-directory -k -Otarget lint-format lint-lua lint-clang tidy

lint-format:
	clang-format --dry-run -Werror $(C_FILES)
lint-lua:
	luacheck --quiet .
lint-clang:
	$(MAKE) --no-print-directory BUILD=$(BUILD)/clang CC=clang CFLAGS="-O1 -g -Werror" \
	  all test-programs

format: ## Format the C code as lint wants it
	clang-format -i $(C_FILES)

# One file at a time, as many at once as make may run jobs.
tidy: $(patsubst %,tidy/%,$(filter %.c,$(PROGRAM_SOURCES) $(LIBRARY_SOURCES) $(TEST_SOURCES) \
  $(call extension_sources,$(EXTENSIONS_BUILT))))
tidy/%:
	clang-tidy --quiet $* -- $(ALL_CPPFLAGS) $(ALL_CFLAGS) -D_GNU_SOURCE= -include tests/ci/noreturn.h

doc: $(BUILD)/moonlet ## Write the manual, and annotations for lua-language-server, to BUILD/doc
	$(BUILD)/moonlet tests/doc/generate.lua $(BUILD)/doc

# ---- Packages and installation -----------------------------------------------------------------

deps: ## Install what the build, the tests and the checks need (Debian and its kin; root or sudo)
	@command -v apt-get >/dev/null || echo "No apt-get here. Debian calls what is needed: $(PACKAGES)"
	@$(call ensure,$(PACKAGES))

install: all install-module ## Install under PREFIX (/usr/local); DESTDIR=... stages it elsewhere
	$(INSTALL) -d $(addprefix $(DESTDIR),$(BINDIR) $(INCDIR) $(LIBDIR)/pkgconfig $(MANDIR))
	$(INSTALL) -m 755 $(BUILD)/moonlet $(DESTDIR)$(BINDIR)/moonlet
	$(INSTALL) -m 644 vm/moonlet.h $(DESTDIR)$(INCDIR)/moonlet.h
	$(INSTALL) -m 644 $(BUILD)/libmoonlet.a $(DESTDIR)$(LIBDIR)/libmoonlet.a
	$(INSTALL) -m 755 $(BUILD)/libmoonlet.so $(DESTDIR)$(LIBDIR)/libmoonlet.so.$(VERSION)
	ln -sf libmoonlet.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libmoonlet.so.0
	ln -sf libmoonlet.so.0 $(DESTDIR)$(LIBDIR)/libmoonlet.so
	$(INSTALL) -m 644 $(BUILD)/moonlet.pc $(DESTDIR)$(LIBDIR)/pkgconfig/moonlet.pc
	$(INSTALL) -m 644 vm/moonlet.1 $(DESTDIR)$(MANDIR)/moonlet.1
	umask 022 && $(BUILD)/moonlet tests/doc/generate.lua $(DESTDIR)$(DATADIR)

install-module: module
	$(INSTALL) -d $(DESTDIR)$(CMODDIR) $(sort $(dir $(INSTALLED_LUA)))
	$(INSTALL) -m 755 $(BUILD)/lua/moonlet.so $(DESTDIR)$(CMODDIR)/moonlet.so
	for file in $(LUA_SOURCES:stdlib/%=%); do \
	  $(INSTALL) -m 644 stdlib/$$file $(DESTDIR)$(LUADIR)/moonlet/$$file || exit; done
	for file in $(EXTENSIONS_BUILT:%=moonlet/%/core.so); do \
	  $(INSTALL) -D -m 755 $(BUILD)/lua/$$file $(DESTDIR)$(CMODDIR)/$$file || exit; done

INSTALLED_LUA = $(LUA_SOURCES:stdlib/%=$(DESTDIR)$(LUADIR)/moonlet/%)

uninstall: ## Remove what install has put there
	rm -f $(addprefix $(DESTDIR),$(BINDIR)/moonlet $(INCDIR)/moonlet.h $(LIBDIR)/libmoonlet.a \
	  $(LIBDIR)/libmoonlet.so $(LIBDIR)/libmoonlet.so.0 $(LIBDIR)/libmoonlet.so.$(VERSION) \
	  $(LIBDIR)/pkgconfig/moonlet.pc $(MANDIR)/moonlet.1 $(CMODDIR)/moonlet.so)
	rm -f $(INSTALLED_LUA) $(EXTENSIONS:%=$(DESTDIR)$(CMODDIR)/moonlet/%/core.so)
	rm -rf $(DESTDIR)$(DATADIR)
	for folder in $(addprefix $(DESTDIR),$(LUADIR)/moonlet $(CMODDIR)/moonlet); do \
	  [ ! -d $$folder ] || find $$folder -depth -type d -empty -delete; done

rock: ## Build and install the rock for lua5.4 with LuaRocks (into TREE=..., if given)
	@$(call ensure,$(BUILD_PACKAGES) luarocks)
	luarocks --lua-version 5.4 $(if $(TREE),--tree $(TREE)) make moonlet-scm-1.rockspec

packaging: all ## Install into a scratch folder, use it, uninstall; the same with the rock
	@$(call ensure,$(BUILD_PACKAGES) luarocks)
	@tests/ci/packaging $(BUILD)

dist: ## Pack the committed sources as BUILD/moonlet-VERSION.tar.gz
	@mkdir -p $(BUILD)
	git archive --prefix=moonlet-$(VERSION)/ -o $(BUILD)/moonlet-$(VERSION).tar.gz HEAD

clean: ## Remove everything that was built
	rm -rf $(BUILD)

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1 \2/p' $(firstword $(MAKEFILE_LIST)) | \
	  while read -r name text; do printf '  make %-18s %s\n' "$$name" "$$text"; done

FORCE:
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: FORCE all library module test-programs test tutorial browser sanitize valgrind bench \
  bench-instructions bench-report fuzz lint lint-format lint-lua lint-clang format tidy doc deps \
  install install-module uninstall rock packaging dist clean help
