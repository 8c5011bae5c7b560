/* libnss_slow.c: a module of the C library (NSS) in which users are found after a while. */
#define _GNU_SOURCE
#include <errno.h>
#include <nss.h>
#include <pwd.h>

extern void slow_wait(void);

enum nss_status _nss_slow_getpwnam_r(const char *name, struct passwd *user, char *buffer,
                                     size_t size, int *error)
    __attribute__((visibility("default")));

enum nss_status _nss_slow_getpwnam_r(const char *name, struct passwd *user, char *buffer,
                                     size_t size, int *error) {
  (void)name, (void)buffer, (void)size, (void)error;
  slow_wait();
  *user = (struct passwd){
      .pw_name = "slow", .pw_passwd = "", .pw_gecos = "", .pw_dir = "/home/slow", .pw_shell = ""};
  return NSS_STATUS_SUCCESS;
}
