/* sources: vm/timer.c */
/* timer_test.c: the timers against a model that searches a plain array. */
#include <stdint.h>

#include "support.h"
#include "timer.h"

#define TIMERS 300

/* What they should do: every timer with its due time and its number in order of starting. */
struct model {
  struct timer timer;
  double due;
  unsigned long started; /* 0: not running */
};

static struct model models[TIMERS];
static struct timers timers;
static unsigned long starts;
static int fired[TIMERS], fired_count;
static uint64_t seed;

static unsigned random_below(unsigned limit) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)(seed >> 33) % limit;
}

static void on_fire(struct timer *timer) {
  fired[fired_count++] = (int)((struct model *)timer - models);
}

static void start(int i, double due) {
  check(timers_reserve(&timers));
  timer_start(&timers, &models[i].timer, due);
  models[i].due = due;
  models[i].started = ++starts;
}

static void stop(int i) {
  timer_stop(&timers, &models[i].timer);
  models[i].started = 0;
}

/* The running timer that is due first, of those due at `now` (-1: none). */
static int earliest(double limit) {
  int best = -1;
  for (int i = 0; i < TIMERS; i++) {
    const struct model *it = &models[i];
    if (it->started && it->due <= limit &&
        (best < 0 || it->due < models[best].due ||
         (it->due == models[best].due && it->started < models[best].started)))
      best = i;
  }
  return best;
}

static void expire(double limit) {
  fired_count = 0;
  timers_expire(&timers, limit);
  for (int k = 0; k < fired_count; k++) {
    check(fired[k] == earliest(limit));
    models[fired[k]].started = 0;
  }
  check(earliest(limit) == -1);
}

static void compare(void) {
  uint32_t running = 0;
  for (int i = 0; i < TIMERS; i++) {
    check(timer_running(&models[i].timer) == (models[i].started != 0));
    running += models[i].started != 0;
  }
  check(timers.count == running);
  if (running)
    check(timers_next(&timers) == models[earliest(1e300)].due);
}

static void behaves_like_the_model(uint64_t with) {
  double time = 0;
  seed = with;
  timers_init(&timers);
  memset(models, 0, sizeof models);
  for (int i = 0; i < TIMERS; i++)
    models[i].timer.fire = on_fire;
  for (int round = 0; round < 5000; round++) {
    int i = (int)random_below(TIMERS);
    switch (random_below(4)) {
    case 0:
      stop(i);
      break;
    case 1:
      time += random_below(3);
      expire(time);
      break;
    default: /* few different times, so that many are equal */
      if (!models[i].started)
        start(i, time + random_below(20));
    }
    compare();
  }
  expire(1e300);
  compare();
  timers_clear(&timers);
}

/* ---- more than there is a heap of ---- */

#define MANY 20000

static struct model many[MANY];
static double fired_due;
static unsigned long fired_started, fired_many;
static int used; /* of many */

/* In order of due time, then of starting. */
static void on_fire_many(struct timer *timer) {
  struct model *it = (struct model *)timer;
  check(it->started != 0);
  check(fired_due < it->due || (fired_due == it->due && fired_started < it->started));
  fired_due = it->due;
  fired_started = it->started;
  it->started = 0;
  fired_many++;
}

static unsigned long due_until(double limit) {
  unsigned long count = 0;
  for (int i = 0; i < used; i++)
    count += many[i].started && many[i].due <= limit;
  return count;
}

/* Due times of so many different values: with few of them, most are equal. */
static void orders_many(uint64_t with, unsigned times, int count) {
  seed = with;
  used = count;
  timers_init(&timers);
  memset(many, 0, sizeof many);
  for (int time = 0; time < 40; time++) {
    for (int i = 0; i < used; i++) {
      if (many[i].started && random_below(8) < with) {
        timer_stop(&timers, &many[i].timer);
        many[i].started = 0;
      } else if (!many[i].started && random_below(2) == 0) {
        check(timers_reserve(&timers));
        many[i] = (struct model){.timer.fire = on_fire_many};
        many[i].due = time + (random_below(times) + 1) * (30. / times);
        many[i].started = ++starts;
        timer_start(&timers, &many[i].timer, many[i].due);
      }
    }
    unsigned long due = due_until(time);
    check(timers.count == due_until(1e300));
    fired_due = 0;
    fired_many = 0;
    timers_expire(&timers, time);
    check(fired_many == due && due_until(time) == 0);
  }
  timers_expire(&timers, 1e300);
  check(timers.count == 0 && due_until(1e300) == 0);
  timers_clear(&timers);
}

/* ---- timers that act on others as they fire ---- */

static struct timer again, victim;
static int runs;

static void restart(struct timer *timer) {
  runs++;
  check(timers_reserve(&timers));
  timer_start(&timers, timer, 1);
}

static void stop_victim(struct timer *timer) {
  (void)timer;
  runs++;
  timer_stop(&timers, &victim);
}

static void fire_may_start_and_stop(void) {
  timers_init(&timers);
  again = (struct timer){.fire = restart};
  check(timers_reserve(&timers));
  timer_start(&timers, &again, 1);
  timers_expire(&timers, 5);
  check(runs == 1 && timer_running(&again));
  timers_expire(&timers, 5);
  check(runs == 2 && timer_running(&again));
  timer_stop(&timers, &again);
  timer_stop(&timers, &again);

  runs = 0;
  again.fire = stop_victim;
  victim = (struct timer){.fire = restart};
  for (struct timer *timer = &again; timer; timer = timer == &again ? &victim : NULL) {
    check(timers_reserve(&timers));
    timer_start(&timers, timer, 1);
  }
  timers_expire(&timers, 1);
  check(runs == 1 && timers.count == 0);
  timers_clear(&timers);
}

int main(void) {
  limit_time(60);
  for (uint64_t with = 1; with <= 10; with++)
    behaves_like_the_model(with);
  for (uint64_t with = 1; with <= 3; with++)
    for (unsigned times = 2; times <= 200000; times *= 10)
      for (int count = 20; count <= MANY; count *= 10)
        orders_many(with, times, count);
  fire_may_start_and_stop();
  return 0;
}
