/* signals.h: moonlet.signal, and SIGINT as an error in the main greenlet. */
#ifndef MOONLET_SIGNALS_H
#define MOONLET_SIGNALS_H

#include "hub.h"

void signals_open(struct hub *hub);
void signals_close(struct hub *hub);

/* A script's own handler of SIGINT was cancelled. */
void signals_restore_sigint(struct hub *hub);

extern const luaL_Reg signals_functions[];

#endif
