// Threads that no signal is delivered to.

#pragma once

#include <pthread.h>
#include <signal.h>

/** Starts a thread that blocks all signals. @returns zero or an errno. */
inline int startQuietThread(pthread_t* thread, void* (*main)(void*), void* argument) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = pthread_create(thread, nullptr, main, argument);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return error;
}
