/* sources: vm/timer.c */
/*
 * messages.c: what messages of ZeroMQ cost at the very least: two threads that block in libzmq.
 * messages reqrep|pushpull COUNT
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if __has_include(<zmq.h>)
#include <zmq.h>

static const char message[] = "hello, world";
static void *context;
static char endpoint[256];
static long count;

static _Noreturn void fail(const char *why) {
  fprintf(stderr, "messages: %s: %s\n", why, zmq_strerror(zmq_errno()));
  exit(1);
}

static void send_one(void *socket) {
  if (zmq_send(socket, message, sizeof message, 0) < 0)
    fail("send");
}

static void receive_one(void *socket) {
  char buffer[256];
  if (zmq_recv(socket, buffer, sizeof buffer, 0) < 0)
    fail("receive");
}

static void *open_socket(int type) {
  void *socket = zmq_socket(context, type);
  if (!socket)
    fail("socket");
  return socket;
}

static void *open_listener(int type) {
  void *socket = open_socket(type);
  size_t size = sizeof endpoint;
  if (zmq_bind(socket, "tcp://127.0.0.1:*") != 0 ||
      zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &size) != 0)
    fail("bind");
  return socket;
}

static void *reply(void *socket) {
  for (long i = 0; i < count; i++) {
    receive_one(socket);
    send_one(socket);
  }
  return NULL;
}

static void *pull(void *socket) {
  for (long i = 0; i < count; i++)
    receive_one(socket);
  return NULL;
}

static double now(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
  if (argc < 3 || (count = atol(argv[2])) <= 0)
    return fputs("usage: messages reqrep|pushpull COUNT\n", stderr), 1;
  int asks = strcmp(argv[1], "reqrep") == 0;
  context = zmq_ctx_new();
  void *listener = open_listener(asks ? ZMQ_REP : ZMQ_PULL);
  void *socket = open_socket(asks ? ZMQ_REQ : ZMQ_PUSH);
  if (zmq_connect(socket, endpoint) != 0)
    fail("connect");
  pthread_t thread;
  double begun = now();
  if (pthread_create(&thread, NULL, asks ? reply : pull, listener) != 0)
    fail("thread");
  for (long i = 0; i < count; i++) {
    send_one(socket);
    if (asks)
      receive_one(socket);
  }
  pthread_join(thread, NULL);
  printf("message\t%.6g\tus\n", (now() - begun) / (double)count * 1e6);
  zmq_close(socket);
  zmq_close(listener);
  zmq_ctx_term(context);
  return 0;
}

#else
int main(void) { return fputs("messages: built without libzmq\n", stderr), 1; }
#endif
