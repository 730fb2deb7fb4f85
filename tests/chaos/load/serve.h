#ifndef CHAOS_SERVE_H
#define CHAOS_SERVE_H

/* `load serve`: the application, at ADDRESS:PORT. */
_Noreturn void
serve_run(const char *address);

#endif
