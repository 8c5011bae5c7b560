/*
 * got.c: has functions of the C library replaced in objects that are loaded.
 *
 * An object calls what it does not define itself by addresses in memory of its own, which the
 * dynamic linker sets.  Its relocations say where they are and what they are called; those that
 * hold the real function, or will at the first call, get the wrapper instead.  Addresses that
 * the linker protects once they are set (RELRO) are made writable meanwhile.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ev.h has names of elf.h's. */
#undef EV_NONE
#undef EV_CURRENT
#include "callout.h"

#if defined __x86_64__
enum { JUMP_SLOT = R_X86_64_JUMP_SLOT, GLOB_DAT = R_X86_64_GLOB_DAT, ABSOLUTE = R_X86_64_64 };
#elif defined __aarch64__
enum { JUMP_SLOT = R_AARCH64_JUMP_SLOT, GLOB_DAT = R_AARCH64_GLOB_DAT, ABSOLUTE = R_AARCH64_ABS64 };
#else
enum { JUMP_SLOT = -1, GLOB_DAT = -1, ABSOLUTE = -1 };
#endif

/* ---- names ---- */

#define BUCKETS 1024 /* many more than names: few others share one */

static const struct callout_name *buckets[BUCKETS];

static unsigned hash(const char *name) {
  unsigned h = 5381;
  for (; *name; name++)
    h = h * 33 + (unsigned char)*name;
  return h % BUCKETS;
}

static const struct callout_name *find(const char *name) {
  unsigned i = hash(name);
  while (buckets[i] && strcmp(buckets[i]->name, name) != 0)
    i = (i + 1) % BUCKETS;
  return buckets[i];
}

static void fill_buckets(void) {
  for (const struct callout_name *const *list = callout_names; *list; list++)
    for (const struct callout_name *entry = *list; entry->name; entry++) {
      unsigned i = hash(entry->name);
      while (buckets[i])
        i = (i + 1) % BUCKETS;
      buckets[i] = entry;
    }
}

/* ---- one object ---- */

struct object {
  const char *name;      /* of its file, without folders */
  ElfW(Addr) base;       /* what its addresses count from */
  ElfW(Addr) start, end; /* its memory */
  const ElfW(Sym) * symbols;
  const char *strings;
  const ElfW(Rela) * tables[2];
  size_t sizes[2];             /* in bytes */
  ElfW(Addr) relro, relro_end; /* what is protected */
  bool unprotected;
  bool own; /* this code is in it */
};

/* Addresses in the dynamic section may or may not have been made absolute. */
static const void *address(const struct object *object, const ElfW(Dyn) * entry) {
  ElfW(Addr) value = entry->d_un.d_ptr;
  return (const void *)(value < object->base ? object->base + value : value);
}

static void read_dynamic(struct object *object, const ElfW(Dyn) * entry) {
  for (; entry->d_tag != DT_NULL; entry++)
    switch (entry->d_tag) {
    case DT_SYMTAB:
      object->symbols = address(object, entry);
      break;
    case DT_STRTAB:
      object->strings = address(object, entry);
      break;
    case DT_RELA:
      object->tables[0] = address(object, entry);
      break;
    case DT_RELASZ:
      object->sizes[0] = entry->d_un.d_val;
      break;
    case DT_JMPREL:
      object->tables[1] = address(object, entry);
      break;
    case DT_PLTRELSZ:
      object->sizes[1] = entry->d_un.d_val;
      break;
    default:
      break;
    }
}

static const ElfW(Dyn) * read_headers(struct object *object, const struct dl_phdr_info *info) {
  const ElfW(Dyn) *dynamic = NULL;
  ElfW(Addr) page = (ElfW(Addr))sysconf(_SC_PAGESIZE);
  object->base = info->dlpi_addr;
  object->start = UINTPTR_MAX;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *header = &info->dlpi_phdr[i];
    ElfW(Addr) start = info->dlpi_addr + header->p_vaddr, end = start + header->p_memsz;
    if (header->p_type == PT_DYNAMIC)
      dynamic = (const ElfW(Dyn) *)start;
    if (header->p_type == PT_LOAD && start < object->start)
      object->start = start;
    if (header->p_type == PT_LOAD && end > object->end)
      object->end = end;
    if (header->p_type == PT_GNU_RELRO) {
      object->relro = start & -page;
      object->relro_end = end & -page;
    }
  }
  return dynamic;
}

/* Protected addresses become writable at the first change. */
static bool make_writable(struct object *object, ElfW(Addr) slot) {
  if (slot < object->relro || slot >= object->relro_end || object->unprotected)
    return true;
  object->unprotected = mprotect((void *)object->relro, object->relro_end - object->relro,
                                 PROT_READ | PROT_WRITE) == 0;
  return object->unprotected;
}

static void protect_again(const struct object *object) {
  if (object->unprotected)
    mprotect((void *)object->relro, object->relro_end - object->relro, PROT_READ);
}

static bool is_within(const struct object *object, const void *place) {
  return (ElfW(Addr))place >= object->start && (ElfW(Addr))place < object->end;
}

/* Whether what is called there is the real function: now, or when it is first called.  (Until
   then the address is one within the object.) */
static bool is_real(const struct object *object, const void *called, const void *real) {
  return called == real || is_within(object, called);
}

/* Whether the function is to be replaced in this object. */
static bool concerns(const struct callout_name *entry, const struct object *object) {
  return (entry->own || !object->own) &&
         (!entry->only || strncmp(object->name, entry->only, strlen(entry->only)) == 0);
}

static void rewrite(struct object *object, const ElfW(Rela) * relocation) {
  unsigned type = (unsigned)ELF64_R_TYPE(relocation->r_info);
  bool data = type == ABSOLUTE && !relocation->r_addend && !object->own;
  if (type != JUMP_SLOT && type != GLOB_DAT && !data)
    return;
  const ElfW(Sym) *symbol = &object->symbols[ELF64_R_SYM(relocation->r_info)];
  if (symbol->st_shndx != SHN_UNDEF || symbol->st_name == 0)
    return;
  const struct callout_name *entry = find(object->strings + symbol->st_name);
  void **slot = (void **)(object->base + relocation->r_offset);
  if (entry && concerns(entry, object) && is_real(object, *slot, entry->real) &&
      make_writable(object, (ElfW(Addr))slot))
    *slot = entry->wrapper;
}

static void rewrite_all(struct object *object) {
  for (int i = 0; i < 2; i++) {
    const ElfW(Rela) *table = object->tables[i];
    for (size_t n = object->sizes[i] / sizeof *table; n > 0; n--)
      rewrite(object, table++);
  }
  protect_again(object);
}

/* ---- which objects ---- */

/* Those that a wrapper itself, or what waits for it, is made of; and those that no greenlet may
   wait inside of.  (Whichever object has malloc is one of them.) */
static bool is_excluded(const char *path, const char *name) {
  static const char *const system[] = {
      "ld-linux", "ld-musl",     "libc.so",    "libm.so",     "libpthread.so", "libdl.so",
      "librt.so", "libanl",      "libresolv",  "libnss_",     "libev.so",      "libgcc_s",
      "libasan",  "libubsan",    "liblsan",    "libjemalloc", "libtcmalloc",   "libmimalloc",
      "libtsan",  "libclang_rt", "vgpreload_", "linux-vdso",  "libmoonlet.so"};
  for (size_t i = 0; i < sizeof system / sizeof *system; i++)
    if (strncmp(name, system[i], strlen(system[i])) == 0)
      return true;
  return strstr(path, "/moonlet/") && strcmp(name, "core.so") == 0;
}

/* Objects that have been seen, by their dynamic sections. */
struct seen {
  const void **list;
  size_t count, room;
  unsigned long long removed; /* how many the linker had removed then: memory is used again */
};

static struct seen seen;

static bool is_new(const void *dynamic) {
  for (size_t i = 0; i < seen.count; i++)
    if (seen.list[i] == dynamic)
      return false;
  return true;
}

static void note(const void *dynamic) {
  if (seen.count == seen.room) {
    size_t room = seen.room ? seen.room * 2 : 64;
    const void **list = realloc(seen.list, room * sizeof *list);
    if (!list)
      return; /* it will be looked at again, which changes nothing */
    seen.list = list;
    seen.room = room;
  }
  seen.list[seen.count++] = dynamic;
}

struct walk {
  bool spare_executable;
  int found;
};

static int visit(struct dl_phdr_info *info, size_t size, void *argument) {
  struct walk *walk = argument;
  struct object object = {0};
  const char *path = info->dlpi_name ? info->dlpi_name : "", *slash = strrchr(path, '/');
  (void)size;
  if (info->dlpi_subs != seen.removed) {
    seen.removed = info->dlpi_subs;
    seen.count = 0;
  }
  const ElfW(Dyn) *dynamic = read_headers(&object, info);
  if (!dynamic || !is_new(dynamic))
    return 0;
  note(dynamic);
  walk->found++;
  bool executable = !*path;
  object.name = slash ? slash + 1 : path;
  object.own = is_within(&object, (void *)callout_rewrite);
  if ((executable && walk->spare_executable && !object.own) || is_excluded(path, object.name) ||
      (is_within(&object, (void *)malloc) && !object.own))
    return 0;
  read_dynamic(&object, dynamic);
  if (object.symbols && object.strings)
    rewrite_all(&object);
  return 0;
}

int callout_rewrite(bool spare_executable) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  struct walk walk = {.spare_executable = spare_executable};
  if ((int)JUMP_SLOT == -1)
    return -1;
  pthread_once(&once, fill_buckets);
  dl_iterate_phdr(visit, &walk);
  return walk.found;
}
