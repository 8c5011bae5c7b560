/* head.h: the heads of responses. */
#ifndef MOONLET_WSAPI_HEAD_H
#define MOONLET_WSAPI_HEAD_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* Places on the stack, from `at` on: what the application has returned, and memory for a long
   head, at first nil. */
enum { HEAD_STATUS, HEAD_HEADERS, HEAD_BODY, HEAD_MEMORY, HEAD_PLACES };

struct head {
  lua_State *L;
  int at;
  int minor; /* of the request's version; 9 is HTTP/0.9 */
  bool keepalive, head_only;
  char *text; /* where it is written */
  size_t size, capacity;
  int status;
  bool bodiless, has_date, has_connection, has_length;
  lua_Integer length; /* of the body, that was or is to be sent */
};

#define HEAD_ROOM 2048 /* of memory that most heads fit in */

/*
 * Writes the head, with a body of one string behind it unless that is long.  Returns the word for
 * what is to follow: "done" (nothing more), "none" (no body, whatever there is), "length",
 * "chunked", "close" (up to the end of the connection), "raw".  `keepalive` says afterwards whether
 * another request may follow.
 */
const char *head_compose(struct head *head);

/* Writes trailers, from the place of the headers, in which only such fields may be. */
void head_add_trailers(struct head *head);

#endif
