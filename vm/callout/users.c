/*
 * users.c: users, groups, services and the like are looked up by modules (NSS), with locks of the C
 * library's held.  The modules are not patched, but what they are made of may be, such as libldap:
 * no greenlet waits inside of it.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <shadow.h>

#include "callout.h"

#define LOOK_UP(type, name, parameters, arguments)                                                 \
  static type callout_##name parameters {                                                          \
    callout_barred++;                                                                              \
    type result = name arguments;                                                                  \
    callout_barred--;                                                                              \
    return result;                                                                                 \
  }

/* name(key) and name_r(key, ...) */
#define LOOK_UP_BOTH(struct_name, name, key_type)                                                  \
  LOOK_UP(struct struct_name *, name, (key_type key), (key))                                       \
  LOOK_UP(int, name##_r,                                                                           \
          (key_type key, struct struct_name * entry, char *buffer, size_t size,                    \
           struct struct_name **found),                                                            \
          (key, entry, buffer, size, found))

LOOK_UP_BOTH(passwd, getpwnam, const char *)
LOOK_UP_BOTH(passwd, getpwuid, uid_t)
LOOK_UP_BOTH(group, getgrnam, const char *)
LOOK_UP_BOTH(group, getgrgid, gid_t)
LOOK_UP_BOTH(spwd, getspnam, const char *)
LOOK_UP(struct passwd *, getpwent, (void), ())
LOOK_UP(struct group *, getgrent, (void), ())
LOOK_UP(int, initgroups, (const char *user, gid_t group), (user, group))
LOOK_UP(int, getgrouplist, (const char *user, gid_t group, gid_t *groups, int *count),
        (user, group, groups, count))
LOOK_UP(struct servent *, getservbyname, (const char *name, const char *protocol), (name, protocol))
LOOK_UP(struct servent *, getservbyport, (int port, const char *protocol), (port, protocol))
LOOK_UP(struct protoent *, getprotobyname, (const char *name), (name))
LOOK_UP(struct protoent *, getprotobynumber, (int number), (number))

const struct callout_name callout_users_names[] = {CALLOUT(getpwnam),
                                                   CALLOUT(getpwnam_r),
                                                   CALLOUT(getpwuid),
                                                   CALLOUT(getpwuid_r),
                                                   CALLOUT(getgrnam),
                                                   CALLOUT(getgrnam_r),
                                                   CALLOUT(getgrgid),
                                                   CALLOUT(getgrgid_r),
                                                   CALLOUT(getspnam),
                                                   CALLOUT(getspnam_r),
                                                   CALLOUT(getpwent),
                                                   CALLOUT(getgrent),
                                                   CALLOUT(initgroups),
                                                   CALLOUT(getgrouplist),
                                                   CALLOUT(getservbyname),
                                                   CALLOUT(getservbyport),
                                                   CALLOUT(getprotobyname),
                                                   CALLOUT(getprotobynumber),
                                                   CALLOUT_END};
