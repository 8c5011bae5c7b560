/* datagram.h: sending and receiving datagrams, for udp.c and unix.c. */
#ifndef MOONLET_DATAGRAM_H
#define MOONLET_DATAGRAM_H

#include "socket.h"

/* A method: sends the string at 2 to the address that `check` finds from argument 3 on. */
int datagram_send_to(lua_State *L, struct sock *self,
                     socklen_t (*check)(lua_State *L, int arg, struct sockaddr_storage *address));

int datagram_send(lua_State *L);
int datagram_receive(lua_State *L);
int datagram_receive_from(lua_State *L);
int datagram_dirty(lua_State *L);

#define DATAGRAM_METHODS                                                                           \
  {"send", datagram_send}, {"receive", datagram_receive}, {"receivefrom", datagram_receive_from},  \
  {                                                                                                \
    "dirty", datagram_dirty                                                                        \
  }

#endif
