/* threads.c: a pool of threads (see threads.h). */
#define _GNU_SOURCE
#include "threads.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct threads {
  pthread_mutex_t lock;
  pthread_cond_t wanted; /* a job has come, or the end */
  pthread_cond_t left;   /* no thread is there that the owner would wait for */
  struct link jobs;      /* not begun */
  int max, count, idle;
  int surplus;     /* threads that are to leave */
  int loose;       /* threads at work on what owns its memory */
  double patience; /* seconds */
  int queued;      /* in `jobs` */
  bool closing;
  bool abandoned; /* the owner has gone: the last thread frees this */
  bool departed;  /* `leaver` has left and is not joined yet */
  pthread_t leaver;
  pid_t process; /* that the threads are in */
};

/* ---- in the threads ---- */

static struct timespec time_in(double seconds) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  long nanoseconds = ts.tv_nsec + (long)((seconds - floor(seconds)) * 1e9);
  ts.tv_sec += (time_t)seconds + nanoseconds / 1000000000;
  ts.tv_nsec = nanoseconds % 1000000000;
  return ts;
}

/* Whether the calling thread is one too many: none leaves work behind that it may do. */
static bool leaves(const struct threads *threads) {
  bool spare = list_empty(&threads->jobs) || threads->count > threads->max;
  return threads->closing || (threads->surplus > 0 && spare);
}

/* Waits for a job; NULL: there was none for so long, or there will be none. */
static struct job *next_job(struct threads *threads) {
  struct timespec limit = time_in(threads->patience);
  int status = 0;
  while (list_empty(&threads->jobs) && !leaves(threads) && status == 0) {
    threads->idle++;
    status = pthread_cond_timedwait(&threads->wanted, &threads->lock, &limit);
    threads->idle--;
  }
  if (list_empty(&threads->jobs) || leaves(threads))
    return NULL;
  struct job *job = container_of(threads->jobs.next, struct job, link);
  list_remove(&job->link);
  threads->queued--;
  return job;
}

static void dispose(struct threads *threads) {
  pthread_cond_destroy(&threads->left);
  pthread_cond_destroy(&threads->wanted);
  pthread_mutex_destroy(&threads->lock);
  free(threads);
}

/* Each thread that leaves joins the one before it, so that only the last is left to join. */
static void leave(struct threads *threads) {
  bool departed = threads->departed;
  pthread_t before = threads->leaver;
  threads->departed = true;
  threads->leaver = pthread_self();
  bool last = --threads->count == 0 && threads->abandoned;
  if (threads->surplus > 0)
    threads->surplus--;
  pthread_cond_signal(&threads->wanted); /* it may have been woken in another's place */
  if (threads->count == threads->loose)
    pthread_cond_signal(&threads->left);
  pthread_mutex_unlock(&threads->lock);
  if (departed)
    pthread_join(before, NULL);
  if (last) {
    pthread_detach(pthread_self());
    dispose(threads);
  }
}

static void *run(void *argument) {
  struct threads *threads = argument;
  struct job *job;
  pthread_mutex_lock(&threads->lock);
  while ((job = next_job(threads))) {
    bool loose = job->loose;
    threads->loose += loose;
    pthread_mutex_unlock(&threads->lock);
    job->work(job);
    pthread_mutex_lock(&threads->lock);
    threads->loose -= loose;
  }
  leave(threads);
  return NULL;
}

/* Signals are for the program's own threads. */
static int start_thread(struct threads *threads) {
  sigset_t all, before;
  pthread_t thread;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failure = pthread_create(&thread, NULL, run, threads);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (!failure)
    threads->count++;
  return failure;
}

/* ---- in the owner's thread ---- */

static void set_up(struct threads *threads, int max, double patience) {
  pthread_condattr_t clock;
  *threads = (struct threads){.max = max, .patience = patience, .process = getpid()};
  pthread_mutex_init(&threads->lock, NULL);
  pthread_condattr_init(&clock);
  pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
  pthread_cond_init(&threads->wanted, &clock);
  pthread_cond_init(&threads->left, &clock);
  pthread_condattr_destroy(&clock);
  list_init(&threads->jobs);
}

struct threads *threads_new(int max, double patience) {
  struct threads *threads = malloc(sizeof *threads);
  if (threads)
    set_up(threads, max, patience);
  return threads;
}

/* Threads stay behind in the parent at a fork, and with them their jobs. */
static void check_process(struct threads *threads) {
  if (threads->process != getpid())
    set_up(threads, threads->max, threads->patience);
}

int threads_do(struct threads *threads, struct job *job) {
  int failure = 0;
  check_process(threads);
  pthread_mutex_lock(&threads->lock);
  list_append(&threads->jobs, &job->link);
  threads->queued++;
  if (threads->queued > threads->idle && threads->count < threads->max)
    failure = start_thread(threads);
  if (failure && threads->count == 0) {
    list_remove(&job->link);
    threads->queued--;
  } else {
    failure = 0;
    pthread_cond_signal(&threads->wanted);
  }
  pthread_mutex_unlock(&threads->lock);
  return failure;
}

bool threads_cancel(struct threads *threads, struct job *job) {
  check_process(threads);
  pthread_mutex_lock(&threads->lock);
  bool queued = list_linked(&job->link);
  if (queued) {
    list_remove(&job->link);
    threads->queued--;
  }
  pthread_mutex_unlock(&threads->lock);
  return queued;
}

int threads_count(struct threads *threads) {
  check_process(threads);
  pthread_mutex_lock(&threads->lock);
  int count = threads->count;
  pthread_mutex_unlock(&threads->lock);
  return count;
}

/* Starts threads, or has some leave, until there are so many. */
static int adjust(struct threads *threads, int count) {
  int failure = 0;
  threads->surplus = threads->count > count ? threads->count - count : 0;
  while (threads->count < count && !failure)
    failure = start_thread(threads);
  pthread_cond_broadcast(&threads->wanted);
  return failure;
}

void threads_limit(struct threads *threads, int max) {
  check_process(threads);
  pthread_mutex_lock(&threads->lock);
  int wanted = threads->count + threads->queued - threads->idle;
  threads->max = max;
  if (wanted < threads->count)
    wanted = threads->count;
  adjust(threads, wanted < max ? wanted : max);
  pthread_mutex_unlock(&threads->lock);
}

int threads_resize(struct threads *threads, int count) {
  check_process(threads);
  pthread_mutex_lock(&threads->lock);
  int failure = adjust(threads, count < threads->max ? count : threads->max);
  pthread_mutex_unlock(&threads->lock);
  return failure;
}

static void forget_jobs(struct threads *threads) {
  list_each(it, &threads->jobs) {
    struct job *job = container_of(it, struct job, link);
    list_remove(it);
    if (job->forget)
      job->forget(job);
  }
}

void threads_close(struct threads *threads) {
  check_process(threads);
  pthread_mutex_lock(&threads->lock);
  threads->closing = true;
  forget_jobs(threads);
  pthread_cond_broadcast(&threads->wanted);
  while (threads->count > threads->loose)
    pthread_cond_wait(&threads->left, &threads->lock);
  bool departed = threads->departed, abandoned = threads->count > 0;
  pthread_t leaver = threads->leaver;
  threads->departed = false;
  threads->abandoned = abandoned;
  pthread_mutex_unlock(&threads->lock);
  if (departed)
    pthread_join(leaver, NULL);
  if (!abandoned)
    dispose(threads);
}
