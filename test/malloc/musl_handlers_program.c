// SPDX-License-Identifier: MIT
//
// Exits with 0 if the malloc has registered its handlers of fork before main(), though nothing was
// allocated. musl's pthread_create() allocates nothing, so two threads may make the first call.
#include <pthread.h>

static int registrations = 0;

/// The preloaded library calls this one.
int pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
  registrations += prepare != 0 && parent != 0 && child != 0;
  return 0;
}

int main(void) { return registrations == 1 ? 0 : 1; }
