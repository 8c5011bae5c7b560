/* sources: vm/heap.c */
/* heap_test.c: blocks of the heap keep what is written to them, and memory comes back. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "heap.h"
#include "sanitizer.h"
#include "support.h"

#define BLOCKS 3000
#define LARGEST_BLOCK 3000

static struct {
  unsigned char *block;
  size_t size;
  unsigned char mark;
} blocks[BLOCKS];
static struct heap *heap;
static uint64_t seed = 7;

static unsigned random_below(unsigned limit) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)(seed >> 33) % limit;
}

/* Mostly small, as Lua's are. */
static size_t random_size(void) { return 1 + random_below(random_below(4) ? 200 : LARGEST_BLOCK); }

static void check_marks(int i, size_t size) {
  for (size_t at = 0; at < size; at++)
    check(blocks[i].block[at] == blocks[i].mark);
}

static void change(int i, size_t size) {
  size_t kept = size < blocks[i].size ? size : blocks[i].size;
  if (blocks[i].block)
    check_marks(i, blocks[i].size);
  blocks[i].block = heap_allocate(heap, blocks[i].block, blocks[i].size, size);
  check((blocks[i].block != NULL) == (size > 0));
  check((uintptr_t)blocks[i].block % 16 == 0);
  check_marks(i, kept);
  blocks[i].size = size;
  blocks[i].mark = (unsigned char)random_below(256);
  if (size > 0)
    memset(blocks[i].block, blocks[i].mark, size);
}

static void blocks_keep_their_bytes(void) {
  for (int turn = 0; turn < 300000; turn++) {
    int i = (int)random_below(BLOCKS);
    change(i, blocks[i].block && random_below(2) ? 0 : random_size());
  }
  for (int i = 0; i < BLOCKS; i++)
    change(i, 0);
}

#ifndef HAVE_ASAN
static double resident(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  check(file != NULL && fscanf(file, "%*d %ld", &pages) == 1);
  fclose(file);
  return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

/* Cells of one size are all freed; cells of another use the same memory, and the rest of it
   goes back to the system. */
static void memory_is_used_again(void) {
  enum { COUNT = 500000 };
  static void *cells[COUNT];
  double before = resident(), peak = 0;
  for (size_t size = 48; size <= 96; size += 16) {
    for (int i = 0; i < COUNT; i++) {
      cells[i] = heap_allocate(heap, NULL, 0, size);
      check(cells[i] != NULL);
      memset(cells[i], 1, size);
    }
    peak = resident() - before;
    check(peak < (double)COUNT * (double)(size + 24));
    for (int i = 0; i < COUNT; i++)
      check(heap_allocate(heap, cells[i], size, 0) == NULL);
  }
  check(resident() - before < peak / 2);
}
#endif

int main(void) {
  limit_time(60);
  heap = heap_new();
  check(heap != NULL);
  blocks_keep_their_bytes();
#ifndef HAVE_ASAN
  memory_is_used_again();
#endif
  heap_free(heap);
  return 0;
}
