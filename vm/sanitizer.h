/*
 * sanitizer.h: HAVE_ASAN is defined in a build for AddressSanitizer.
 */
#ifndef MOONLET_SANITIZER_H
#define MOONLET_SANITIZER_H

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif

#endif
