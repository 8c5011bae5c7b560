/* names.c: the lists of what is replaced, from all files with wrappers. */
#include "callout.h"

extern const struct callout_name callout_connect_names[], callout_file_names[],
    callout_load_names[], callout_poll_names[], callout_receive_names[], callout_send_names[],
    callout_sleep_names[];

const struct callout_name *const callout_names[] = {
    callout_connect_names, callout_file_names, callout_load_names,  callout_poll_names,
    callout_receive_names, callout_send_names, callout_sleep_names, NULL};
