/*
 * heap.h: memory for a Lua state of our own.
 *
 * Lua allocates small blocks in great numbers, and tells the size of each again when it
 * frees it.  Slabs of 64 KiB hold cells of one size each, in lists of free ones: to allocate
 * and to free is to take and to put back the first.  Large blocks are the C library's.
 * A heap belongs to one Lua state, and like it to one thread.
 */
#ifndef MOONLET_HEAP_H
#define MOONLET_HEAP_H

#include <stddef.h>

struct heap;

/* NULL if there is no memory for it. */
struct heap *heap_new(void);

/* After lua_close: what has been allocated in it is gone. */
void heap_free(struct heap *heap);

/* A lua_Alloc, whose first argument is the heap. */
void *heap_allocate(void *heap, void *block, size_t old_size, size_t new_size);

#endif
