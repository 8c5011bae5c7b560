/* names.c: the lists of what is replaced, from all files with wrappers. */
#include "callout.h"

extern const struct callout_name callout_child_names[], callout_close_names[],
    callout_condition_names[], callout_connect_names[], callout_context_names[],
    callout_file_names[], callout_handler_names[], callout_keys_names[], callout_load_names[],
    callout_filelock_names[], callout_locks_names[], callout_once_names[], callout_poll_names[],
    callout_popen_names[], callout_receive_names[], callout_resolve_names[],
    callout_semaphore_names[], callout_send_names[], callout_sleep_names[], callout_stdio_names[],
    callout_sync_names[], callout_users_names[];

const struct callout_name *const callout_names[] = {callout_child_names,
                                                    callout_close_names,
                                                    callout_condition_names,
                                                    callout_connect_names,
                                                    callout_context_names,
                                                    callout_file_names,
                                                    callout_handler_names,
                                                    callout_keys_names,
                                                    callout_load_names,
                                                    callout_filelock_names,
                                                    callout_locks_names,
                                                    callout_once_names,
                                                    callout_poll_names,
                                                    callout_popen_names,
                                                    callout_receive_names,
                                                    callout_resolve_names,
                                                    callout_semaphore_names,
                                                    callout_send_names,
                                                    callout_sleep_names,
                                                    callout_stdio_names,
                                                    callout_sync_names,
                                                    callout_users_names,
                                                    NULL};
