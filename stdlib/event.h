/*
 * event.h: the classes of moonlet.event.
 */
#ifndef MOONLET_EVENT_H
#define MOONLET_EVENT_H

#include "class.h"

extern const struct class_kind event_kind, async_result_kind;

#endif
