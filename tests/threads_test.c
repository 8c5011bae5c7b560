/* sources: vm/threads.c */
/* threads_test.c: the pool of threads for work that blocks. */
#include <pthread.h>
#include <stdatomic.h>

#include "support.h"
#include "threads.h"

#define JOBS 40
#define FOREVER 3600.

struct task {
  struct job job;
  pthread_t thread;
  int place; /* in the order of beginning */
  atomic_bool ended;
};

static struct task tasks[JOBS];
static atomic_int begun, at_work, most_at_work;
static atomic_bool gate; /* closed: jobs wait for it */

static void work(struct job *job) {
  struct task *task = container_of(job, struct task, job);
  task->place = atomic_fetch_add(&begun, 1);
  task->thread = pthread_self();
  int count = atomic_fetch_add(&at_work, 1) + 1, most = atomic_load(&most_at_work);
  while (count > most && !atomic_compare_exchange_weak(&most_at_work, &most, count))
    ;
  while (atomic_load(&gate))
    usleep(100);
  atomic_fetch_sub(&at_work, 1);
  atomic_store(&task->ended, true);
}

static void reset(bool closed) {
  memset(tasks, 0, sizeof tasks);
  atomic_store(&begun, 0);
  atomic_store(&most_at_work, 0);
  atomic_store(&gate, closed);
}

static void submit(struct threads *threads, int from, int to) {
  for (int i = from; i < to; i++) {
    tasks[i].job.work = work;
    check(threads_do(threads, &tasks[i].job) == 0);
  }
}

static void wait_for_end(int from, int to) {
  for (int i = from; i < to; i++)
    while (!atomic_load(&tasks[i].ended))
      usleep(100);
}

static int distinct_threads(int count) {
  int distinct = 0;
  for (int i = 0; i < count; i++) {
    int k = 0;
    while (k < i && !pthread_equal(tasks[k].thread, tasks[i].thread))
      k++;
    distinct += k == i;
  }
  return distinct;
}

static void unused_pools_have_no_thread(void) {
  struct threads *threads = threads_new(4, FOREVER);
  check(threads != NULL);
  threads_close(threads);
}

static void one_thread_keeps_the_order(void) {
  struct threads *threads = threads_new(1, FOREVER);
  reset(true);
  submit(threads, 0, JOBS);
  atomic_store(&gate, false);
  wait_for_end(0, JOBS);
  for (int i = 0; i < JOBS; i++)
    check(tasks[i].place == i);
  check(distinct_threads(JOBS) == 1);
  threads_close(threads);
}

static void grows_to_its_limit(void) {
  struct threads *threads = threads_new(4, FOREVER);
  reset(true);
  submit(threads, 0, JOBS);
  while (atomic_load(&at_work) < 4)
    usleep(100);
  check(atomic_load(&begun) == 4);
  atomic_store(&gate, false);
  wait_for_end(0, JOBS);
  check(atomic_load(&most_at_work) == 4);
  check(distinct_threads(JOBS) == 4);
  threads_close(threads);
}

/* No more threads than there is work for. */
static void starts_few(void) {
  struct threads *threads = threads_new(JOBS, FOREVER);
  reset(true);
  submit(threads, 0, 2);
  while (atomic_load(&at_work) < 2)
    usleep(100);
  atomic_store(&gate, false);
  wait_for_end(0, 2);
  check(distinct_threads(2) == 2);
  threads_close(threads);
}

static int threads_alive(void) {
  char line[256];
  int count = 0;
  FILE *file = fopen("/proc/self/status", "r");
  check(file != NULL);
  while (fgets(line, sizeof line, file))
    sscanf(line, "Threads: %d", &count);
  fclose(file);
  return count;
}

static void idle_threads_leave(void) {
  struct threads *threads = threads_new(4, 0.01);
  int before = threads_alive();
  for (int round = 0; round < 2; round++) {
    reset(true);
    submit(threads, 0, 4);
    while (atomic_load(&at_work) < 4)
      usleep(100);
    check(threads_alive() == before + 4);
    atomic_store(&gate, false);
    wait_for_end(0, 4);
    while (threads_alive() > before)
      usleep(1000);
  }
  threads_close(threads);
}

static void *open_gate(void *argument) {
  (void)argument;
  usleep(10000);
  atomic_store(&gate, false);
  return NULL;
}

/* What has begun is waited for, the rest never begins. */
static void closing_waits(void) {
  struct threads *threads = threads_new(3, FOREVER);
  pthread_t opener;
  reset(true);
  submit(threads, 0, JOBS);
  while (atomic_load(&at_work) < 3)
    usleep(100);
  check(pthread_create(&opener, NULL, open_gate, NULL) == 0);
  threads_close(threads);
  check(atomic_load(&begun) == 3 && atomic_load(&at_work) == 0);
  check(pthread_join(opener, NULL) == 0);
}

/* Closes a pool that is at work on loose jobs; the last thread frees it. */
static void closing_leaves_loose_jobs(void) {
  struct threads *threads = threads_new(3, FOREVER);
  int before = threads_alive();
  reset(true);
  for (int i = 0; i < JOBS; i++)
    tasks[i].job.loose = true;
  submit(threads, 0, JOBS);
  while (atomic_load(&at_work) < 3)
    usleep(100);
  threads_close(threads);
  check(atomic_load(&begun) == 3 && atomic_load(&at_work) == 3);
  atomic_store(&gate, false);
  while (threads_alive() > before)
    usleep(1000);
  check(atomic_load(&begun) == 3 && atomic_load(&at_work) == 0);
}

static atomic_bool second_gate;

static void work_longer(struct job *job) {
  atomic_fetch_add(&at_work, 1);
  while (atomic_load(&second_gate))
    usleep(100);
  atomic_fetch_sub(&at_work, 1);
  atomic_store(&container_of(job, struct task, job)->ended, true);
}

/* A loose job does not keep the owner from waiting for the others, nor idle threads from leaving.
 */
static void closing_waits_for_the_others(void) {
  struct threads *threads = threads_new(3, FOREVER);
  int before = threads_alive();
  pthread_t opener;
  reset(true);
  atomic_store(&second_gate, true);
  submit(threads, 0, 2);
  tasks[2].job.work = work_longer;
  tasks[2].job.loose = true;
  check(threads_do(threads, &tasks[2].job) == 0);
  while (atomic_load(&at_work) < 3)
    usleep(100);
  check(pthread_create(&opener, NULL, open_gate, NULL) == 0);
  threads_close(threads);
  check(atomic_load(&tasks[0].ended) && atomic_load(&tasks[1].ended));
  check(pthread_join(opener, NULL) == 0);
  atomic_store(&second_gate, false);
  wait_for_end(2, 3);
  while (threads_alive() > before)
    usleep(1000);
}

/* Only what has not begun; it never does. */
static void cancels_what_waits(void) {
  struct threads *threads = threads_new(1, FOREVER);
  reset(true);
  submit(threads, 0, 4);
  while (atomic_load(&at_work) < 1)
    usleep(100);
  check(!threads_cancel(threads, &tasks[0].job));
  check(threads_cancel(threads, &tasks[2].job));
  check(!threads_cancel(threads, &tasks[2].job));
  atomic_store(&gate, false);
  wait_for_end(0, 2);
  wait_for_end(3, 4);
  check(!atomic_load(&tasks[2].ended) && atomic_load(&begun) == 3);
  threads_close(threads);
}

/* A limit that rises lets waiting jobs begin; one that falls has threads leave after theirs. */
static void limits_change(void) {
  struct threads *threads = threads_new(1, FOREVER);
  int before = threads_alive();
  reset(true);
  submit(threads, 0, 10);
  while (atomic_load(&at_work) < 1)
    usleep(100);
  threads_limit(threads, 3);
  while (atomic_load(&at_work) < 3)
    usleep(100);
  check(threads_count(threads) == 3);
  threads_limit(threads, 0);
  atomic_store(&gate, false);
  while (threads_alive() > before)
    usleep(1000);
  check(atomic_load(&begun) == 3 && threads_count(threads) == 0);
  threads_limit(threads, 2);
  wait_for_end(0, 10);
  check(atomic_load(&most_at_work) == 3);
  threads_close(threads);
}

static void size_is_set(void) {
  struct threads *threads = threads_new(4, FOREVER);
  int before = threads_alive();
  check(threads_resize(threads, 3) == 0 && threads_count(threads) == 3);
  check(threads_resize(threads, 9) == 0 && threads_count(threads) == 4);
  check(threads_resize(threads, 1) == 0);
  while (threads_alive() > before + 1)
    usleep(1000);
  check(threads_count(threads) == 1);
  reset(false);
  submit(threads, 0, JOBS);
  wait_for_end(0, JOBS);
  threads_close(threads);
}

/* No job is lost, whatever is asked for in between. */
static void limits_change_at_random(void) {
  struct threads *threads = threads_new(2, 0.001);
  unsigned seed = 1;
  for (int round = 0; round < 300; round++) {
    reset(false);
    for (int i = 0; i < JOBS; i++) {
      submit(threads, i, i + 1);
      if (rand_r(&seed) % 8 == 0)
        threads_limit(threads, 1 + rand_r(&seed) % 4);
      if (rand_r(&seed) % 8 == 0)
        check(threads_resize(threads, rand_r(&seed) % 4) == 0);
      if (rand_r(&seed) % 16 == 0)
        usleep(200);
      if (rand_r(&seed) % 16 == 0 && threads_cancel(threads, &tasks[i].job))
        atomic_store(&tasks[i].ended, true);
    }
    wait_for_end(0, JOBS);
  }
  threads_close(threads);
}

int main(void) {
  limit_time(60);
  unused_pools_have_no_thread();
  one_thread_keeps_the_order();
  grows_to_its_limit();
  starts_few();
  idle_threads_leave();
  closing_waits();
  closing_leaves_loose_jobs();
  closing_waits_for_the_others();
  cancels_what_waits();
  limits_change();
  size_is_set();
  limits_change_at_random();
  return 0;
}
