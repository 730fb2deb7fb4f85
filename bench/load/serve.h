#ifndef LOAD_SERVE_H
#define LOAD_SERVE_H

/* The application, on that port of every address; prints `ready PORT`. */
_Noreturn void
serve_run(const char *port);

#endif
