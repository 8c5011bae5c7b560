/* reason.h: the usual words behind a status (RFC 9110, section 15). */
#ifndef MOONLET_WSAPI_REASON_H
#define MOONLET_WSAPI_REASON_H

/* "" for one that has none. */
const char *reason_of(int status);

#endif
