// Process 1: of a machine of the cluster, and of every pod's sandbox (the "pause" image). It reaps what is orphaned,
// and ends on SIGTERM.
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal_number) {
  (void)signal_number;
  _exit(0);
}

int main(void) {
  sigset_t children;
  int signal_number;

  signal(SIGTERM, end);
  signal(SIGINT, end);
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  sigprocmask(SIG_BLOCK, &children, NULL);
  for (;;) {
    while (waitpid(-1, NULL, WNOHANG) > 0)
      ;
    sigwait(&children, &signal_number);
  }
}
