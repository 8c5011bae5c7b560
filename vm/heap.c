/* heap.c: cells of one size in slabs (see heap.h). */
#define _GNU_SOURCE
#include "heap.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "list.h"
#include "sanitizer.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define STEP 16u /* sizes of cells are its multiples */
#if defined(HAVE_ASAN) || defined(MOONLET_VALGRIND)
#define LARGEST 0u /* cell: every block comes from malloc, which the tools watch */
#else
#define LARGEST 1024u /* cell; larger blocks come from malloc */
#endif
#define SLAB ((size_t)64 << 10)   /* and its alignment, so that a cell finds its slab */
#define SEGMENT ((size_t)1 << 20) /* what is mapped at a time */
#define PAGE 4096u
#define KEPT 64 /* empty slabs; of further ones the pages go back to the system */

/* A heap of so many slabs will grow on: the kernel makes the pages of several at once, which
   costs a good part less than a fault for each. */
#define GROWING 256u
#define AHEAD (4 * SLAB)

struct cell {
  struct cell *next;
};

struct slab {
  struct cell *free;
  char *fresh;      /* from here on no cell has been used yet */
  uint32_t used;    /* cells */
  uint32_t size;    /* of a cell */
  bool full;        /* left as such; in no list */
  struct link link; /* in the heap's lists: those of its size with room, or the empty ones */
};

#define HEADER 64u

struct heap {
  struct slab *current[LARGEST / STEP + 1]; /* the slab in use, by size in steps */
  struct link partial[LARGEST / STEP + 1];  /* rings: others with room */
  struct link empty;                        /* ring */
  int empty_count;
  char *segment, *segment_end; /* of the last segment: slabs not used yet */
  char *ready_end;             /* up to here its pages are there */
  size_t slabs;
  char **segments;
  size_t segment_count;
};

_Static_assert(sizeof(struct slab) <= HEADER, "cells would begin inside the header");

/* ---- slabs ---- */

static bool map_segment(struct heap *heap) {
  char **segments = realloc(heap->segments, (heap->segment_count + 1) * sizeof *segments);
  if (!segments)
    return false;
  heap->segments = segments;
  char *map =
      mmap(NULL, SEGMENT + SLAB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED)
    return false;
  char *start = (char *)(((uintptr_t)map + SLAB - 1) & ~(uintptr_t)(SLAB - 1));
  if (start > map)
    munmap(map, (size_t)(start - map));
  munmap(start + SEGMENT, (size_t)(map + SLAB - start)); /* maps are aligned to pages: not empty */
  segments[heap->segment_count++] = start;
  heap->segment = heap->ready_end = start;
  heap->segment_end = start + SEGMENT;
  return true;
}

static struct slab *new_slab(struct heap *heap) {
  if (heap->segment == heap->segment_end && !map_segment(heap))
    return NULL;
  struct slab *slab = (struct slab *)heap->segment;
  heap->segment += SLAB;
  heap->slabs++;
#ifdef MADV_POPULATE_WRITE
  if (heap->slabs > GROWING && heap->segment > heap->ready_end) {
    madvise(slab, AHEAD, MADV_POPULATE_WRITE);
    heap->ready_end = (char *)slab + AHEAD;
  }
#endif
  return slab;
}

static struct slab *empty_slab(struct heap *heap) {
  if (list_empty(&heap->empty))
    return new_slab(heap);
  struct slab *slab = container_of(heap->empty.next, struct slab, link);
  list_remove(&slab->link);
  heap->empty_count--;
  return slab;
}

/* The slab with room that is to be used next for cells of so many steps; NULL: no memory. */
static struct slab *next_slab(struct heap *heap, size_t steps) {
  if (!list_empty(&heap->partial[steps])) {
    struct slab *slab = container_of(heap->partial[steps].next, struct slab, link);
    list_remove(&slab->link);
    return slab;
  }
  struct slab *slab = empty_slab(heap);
  if (slab)
    *slab = (struct slab){.fresh = (char *)slab + HEADER, .size = (uint32_t)steps * STEP};
  return slab;
}

/* Makes free cells of fresh memory, as far as its page goes. */
static bool carve(struct slab *slab) {
  char *end = (char *)slab + SLAB, *cell = slab->fresh;
  char *page_end = (char *)(((uintptr_t)cell + PAGE) & ~(uintptr_t)(PAGE - 1));
  struct cell **last = &slab->free;
  for (; cell + slab->size <= end && cell < page_end; cell += slab->size) {
    *last = (struct cell *)cell;
    last = &((struct cell *)cell)->next;
  }
  *last = NULL;
  slab->fresh = cell;
  return slab->free != NULL;
}

/* ---- cells ---- */

static void *take(struct slab *slab) {
  struct cell *cell = slab->free;
  slab->free = cell->next;
  slab->used++;
  return cell;
}

static __attribute__((noinline)) void *take_elsewhere(struct heap *heap, size_t steps) {
  struct slab *slab = heap->current[steps];
  while (!slab || (!slab->free && !carve(slab))) {
    struct slab *next = next_slab(heap, steps);
    if (!next)
      return NULL;
    if (slab)
      slab->full = true;
    heap->current[steps] = slab = next;
  }
  return take(slab);
}

static inline void *allocate(struct heap *heap, size_t size) {
  if (unlikely(size > LARGEST))
    return malloc(size);
  size_t steps = (size + STEP - 1) / STEP;
  struct slab *slab = heap->current[steps];
  return likely(slab && slab->free) ? take(slab) : take_elsewhere(heap, steps);
}

/* A cell has come back to a slab that was full, or was the last in use. */
static __attribute__((noinline)) void reconsider(struct heap *heap, struct slab *slab) {
  if (slab == heap->current[slab->size / STEP])
    return;
  if (!slab->full)
    list_remove(&slab->link);
  slab->full = false;
  if (slab->used > 0) {
    list_append(&heap->partial[slab->size / STEP], &slab->link);
    return;
  }
  if (heap->empty_count++ < KEPT) {
    list_prepend(&heap->empty, &slab->link);
  } else {
    madvise((char *)slab + PAGE, SLAB - PAGE, MADV_DONTNEED);
    list_append(&heap->empty, &slab->link);
  }
}

static inline void release(struct heap *heap, void *block, size_t size) {
  if (unlikely(size > LARGEST)) {
    free(block);
    return;
  }
  struct slab *slab = (struct slab *)((uintptr_t)block & ~(uintptr_t)(SLAB - 1));
  struct cell *cell = block;
  cell->next = slab->free;
  slab->free = cell;
  if (unlikely(--slab->used == 0 || slab->full))
    reconsider(heap, slab);
}

static void *resize(struct heap *heap, void *block, size_t old_size, size_t new_size) {
  if (old_size > LARGEST && new_size > LARGEST)
    return realloc(block, new_size);
  if (old_size <= LARGEST && (old_size + STEP - 1) / STEP == (new_size + STEP - 1) / STEP)
    return block;
  void *moved = allocate(heap, new_size);
  if (moved) {
    memcpy(moved, block, old_size < new_size ? old_size : new_size);
    release(heap, block, old_size);
  }
  return moved;
}

void *heap_allocate(void *heap, void *block, size_t old_size, size_t new_size) {
  if (new_size == 0) {
    if (block)
      release(heap, block, old_size);
    return NULL;
  }
  return block ? resize(heap, block, old_size, new_size) : allocate(heap, new_size);
}

struct heap *heap_new(void) {
  struct heap *heap = calloc(1, sizeof *heap);
  if (!heap)
    return NULL;
  for (size_t steps = 0; steps <= LARGEST / STEP; steps++)
    list_init(&heap->partial[steps]);
  list_init(&heap->empty);
  return heap;
}

void heap_free(struct heap *heap) {
  for (size_t i = 0; i < heap->segment_count; i++)
    munmap(heap->segments[i], SEGMENT);
  free(heap->segments);
  free(heap);
}
