/* sleep.c: sleep, usleep, nanosleep, clock_nanosleep.  When a sleep is cut short (callout.h) they
   say that it is over. */
#define _GNU_SOURCE
#include <time.h>
#include <unistd.h>

#include "callout.h"

static double seconds_of(const struct timespec *time) {
  return (double)time->tv_sec + (double)time->tv_nsec * 1e-9;
}

static bool is_valid(const struct timespec *time) {
  return time && time->tv_sec >= 0 && time->tv_nsec >= 0 && time->tv_nsec < 1000000000;
}

static bool has_slept(struct hub *hub, const char *name, double seconds) {
  return hub && callout_sleep(hub, name, seconds) != CALLOUT_REFUSED;
}

static unsigned callout_sleep_seconds(unsigned seconds) {
  return has_slept(callout_hub(), "sleep", seconds) ? 0 : sleep(seconds);
}

static int callout_usleep(useconds_t microseconds) {
  return has_slept(callout_hub(), "usleep", microseconds * 1e-6) ? 0 : usleep(microseconds);
}

static int callout_nanosleep(const struct timespec *time, struct timespec *rest) {
  bool slept = is_valid(time) && has_slept(callout_hub(), "nanosleep", seconds_of(time));
  return slept ? 0 : nanosleep(time, rest);
}

static bool is_clock_of_time(clockid_t clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
         clock == CLOCK_TAI;
}

static int callout_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                                   struct timespec *rest) {
  struct timespec now = {0};
  if (!is_valid(time) || !is_clock_of_time(clock) || (flags & ~TIMER_ABSTIME))
    return clock_nanosleep(clock, flags, time, rest);
  if (flags & TIMER_ABSTIME)
    clock_gettime(clock, &now);
  bool slept = has_slept(callout_hub(), "clock_nanosleep", seconds_of(time) - seconds_of(&now));
  return slept ? 0 : clock_nanosleep(clock, flags, time, rest);
}

const struct callout_name callout_sleep_names[] = {
    {"sleep", (void *)callout_sleep_seconds, (void *)sleep, false, NULL},
    CALLOUT(usleep),
    CALLOUT(nanosleep),
    CALLOUT(clock_nanosleep),
    CALLOUT_END};
