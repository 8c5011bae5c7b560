/* cstack.c: mapping, pooling and switching C stacks (see cstack.h). */
#define _GNU_SOURCE
#include "cstack.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sanitizer.h"

#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef MOONLET_VALGRIND
#include <valgrind/valgrind.h>
#endif

/* MOONLET_UCONTEXT: use it on any CPU, to test it. */
#if defined(MOONLET_UCONTEXT) || (!defined(__x86_64__) && !defined(__aarch64__))
#include <ucontext.h>
#define USE_UCONTEXT 1
#endif

/* How much of a stack's top an idle one keeps: more than the hub's own frames need. */
#define WARM_BYTES (32u << 10)

/* ---- the switch itself ---- */

#ifdef USE_UCONTEXT

/* The saved "stack pointer" is a ucontext_t, kept at the stack's high end. */
static void start_on(struct cstack *stack, void (*entry)(void *), void *argument) {
  ucontext_t *context = (ucontext_t *)(stack->high - ((sizeof *context + 63) & ~(size_t)63));
  getcontext(context);
  context->uc_stack.ss_sp = stack->low;
  context->uc_stack.ss_size = (size_t)((char *)context - stack->low);
  context->uc_link = NULL;
  makecontext(context, (void (*)(void))entry, 1, argument);
  stack->sp = context;
}

static void cstack_switch(void **save, void *target) {
  ucontext_t here;
  *save = &here;
  swapcontext(&here, target);
}

#else

void cstack_switch(void **save, void *target);
void cstack_entry(void);

#if defined(__x86_64__)

/* Lays out the frame that cstack_switch pops, ending in a jump to cstack_entry. */
static void start_on(struct cstack *stack, void (*entry)(void *), void *argument) {
  uint32_t mxcsr;
  uint16_t x87;
  __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
  __asm__ volatile("fnstcw %0" : "=m"(x87));
  uintptr_t *sp = (uintptr_t *)stack->high;
  *--sp = 0;
  *--sp = 0;
  *--sp = (uintptr_t)cstack_entry;
  *--sp = 0;                   /* rbp */
  *--sp = (uintptr_t)entry;    /* rbx */
  *--sp = (uintptr_t)argument; /* r12 */
  *--sp = 0;                   /* r13 */
  *--sp = 0;                   /* r14 */
  *--sp = 0;                   /* r15 */
  *--sp = mxcsr | (uintptr_t)x87 << 32;
  stack->sp = sp;
}

#else /* aarch64 */

static void start_on(struct cstack *stack, void (*entry)(void *), void *argument) {
  uintptr_t *frame = (uintptr_t *)(stack->high - 176);
  uintptr_t fpcr;
  __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
  memset(frame, 0, 176);
  frame[0] = (uintptr_t)entry;         /* x19 */
  frame[1] = (uintptr_t)argument;      /* x20 */
  frame[11] = (uintptr_t)cstack_entry; /* x30 */
  frame[20] = fpcr;
  stack->sp = frame;
}

#endif
#endif

/* ---- C++ exceptions in flight ---- */

struct cxx_globals {
  void *caught;
  unsigned uncaught;
};

typedef struct cxx_globals *(*cxx_getter)(void);

/* Found by any of the threads with a runtime. */
static _Atomic(cxx_getter) cxx_get_globals;

static cxx_getter cxx_getter_found(void) {
  return atomic_load_explicit(&cxx_get_globals, memory_order_relaxed);
}

void cstack_find_cxx(void) {
  cxx_getter getter = cxx_getter_found();
  if (getter)
    return;
  void *symbol = dlsym(RTLD_DEFAULT, "__cxa_get_globals");
  if (!symbol) {
    void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
    if (library)
      symbol = dlsym(library, "__cxa_get_globals");
  }
  *(void **)&getter = symbol;
  atomic_store_explicit(&cxx_get_globals, getter, memory_order_relaxed);
}

/* ---- the pool ---- */

void cstack_pool_init(struct cstack_pool *pool, void (*entry)(void *), void *argument) {
  *pool = (struct cstack_pool){.size = CSTACK_DEFAULT_SIZE, .entry = entry, .argument = argument};
  list_init(&pool->idle);
  list_init(&pool->all);
  cstack_find_cxx();
}

/* The descriptor sits at the top of its own mapping: one mmap is all there is to fail. */
static struct cstack *map_stack(struct cstack_pool *pool) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t length = ((pool->size + page - 1) & ~(page - 1)) + page;
  char *map = mmap(NULL, length, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (map == MAP_FAILED)
    return NULL;
  if (mprotect(map, page, PROT_NONE) != 0) {
    int failure = errno;
    munmap(map, length);
    errno = failure;
    return NULL;
  }
#ifdef MADV_NOHUGEPAGE
  madvise(map, length, MADV_NOHUGEPAGE);
#endif
  struct cstack *stack =
      (struct cstack *)((uintptr_t)(map + length - sizeof *stack) & ~(uintptr_t)63);
  *stack = (struct cstack){.map = map, .length = length, .low = map + page, .high = (char *)stack};
#ifdef MOONLET_VALGRIND
  stack->valgrind_id = VALGRIND_STACK_REGISTER(stack->low, stack->high);
#endif
  list_append(&pool->all, &stack->all);
  pool->count++;
  start_on(stack, pool->entry, pool->argument);
  return stack;
}

static void unmap_stack(struct cstack_pool *pool, struct cstack *stack) {
  list_remove(&stack->all);
  pool->count--;
#ifdef MOONLET_VALGRIND
  VALGRIND_STACK_DEREGISTER(stack->valgrind_id);
#endif
#ifdef HAVE_ASAN
  ASAN_UNPOISON_MEMORY_REGION(stack->map, stack->length);
#endif
  munmap(stack->map, stack->length);
}

bool cstack_reserve(struct cstack_pool *pool) {
  if (pool->idle_count > 0)
    return true;
  struct cstack *stack = map_stack(pool);
  if (!stack)
    return false;
  cstack_give(pool, stack);
  return true;
}

struct cstack *cstack_take(struct cstack_pool *pool) {
  assert(pool->idle_count > 0);
  struct cstack *stack = container_of(pool->idle.next, struct cstack, pool);
  list_remove(&stack->pool);
  pool->idle_count--;
  return stack;
}

void cstack_give(struct cstack_pool *pool, struct cstack *stack) {
  if (pool->idle_count >= CSTACK_MAX_WARM)
    madvise(stack->low, (size_t)(stack->high - stack->low) - WARM_BYTES, MADV_DONTNEED);
  list_prepend(&pool->idle, &stack->pool);
  pool->idle_count++;
}

/* The coldest go first: the pool is used from its other end. */
void cstack_trim(struct cstack_pool *pool) {
  while (pool->idle_count > CSTACK_MAX_IDLE) {
    struct cstack *stack = container_of(pool->idle.prev, struct cstack, pool);
    list_remove(&stack->pool);
    pool->idle_count--;
    unmap_stack(pool, stack);
  }
}

void cstack_pool_clear(struct cstack_pool *pool, struct cstack *keep) {
  list_each(it, &pool->all) {
    struct cstack *stack = container_of(it, struct cstack, all);
    if (stack != keep)
      unmap_stack(pool, stack);
  }
  list_init(&pool->idle);
  pool->idle_count = 0;
}

/* ---- switching ---- */

#ifdef HAVE_ASAN
/* AddressSanitizer tells the bounds of the thread's own stack when it is left. */
static void finish_switch(struct cstack_pool *pool, void *fake_stack) {
  const void *bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
  if (!pool->left->map) {
    pool->left->low = (char *)bottom;
    pool->left->high = (char *)bottom + size;
  }
}
#endif

void cstack_arrived(struct cstack_pool *pool) {
#ifdef HAVE_ASAN
  finish_switch(pool, NULL);
#else
  (void)pool;
#endif
}

void cstack_jump(struct cstack_pool *pool, struct cstack *from, struct cstack *to) {
  struct cxx_globals saved, *globals = NULL;
  cxx_getter get_globals = cxx_getter_found();
  if (__builtin_expect(get_globals != NULL, 0)) {
    globals = get_globals();
    saved = *globals;
    *globals = (struct cxx_globals){0};
  }
  pool->left = from;
#ifdef HAVE_ASAN
  __sanitizer_start_switch_fiber(&from->fake_stack, to->low, (size_t)(to->high - to->low));
#endif
  cstack_switch(&from->sp, to->sp);
#ifdef HAVE_ASAN
  finish_switch(pool, from->fake_stack);
#endif
  if (__builtin_expect(globals != NULL, 0))
    *globals = saved;
}
