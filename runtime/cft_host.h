// cft_host.h - signals, as the program around Lua counts them.
#ifndef CFT_HOST_H
#define CFT_HOST_H

#include "base.h"

// How often the program was asked to end since the last clear: Ctrl-C (SIGINT), and once for the first of
// SIGTERM, SIGHUP and SIGPIPE; 0 if never.
//
// Asking means "I look after Ctrl-C myself": from the first call until the next clear, the first
// Ctrl-C is only counted, so that whoever asks can finish a step and save. Where nobody asks, it
// stops the Lua code that runs. The second one ends the program at once with exit code 130; at the
// prompt of the REPL it stops the Lua code instead.
// SIGTERM, SIGHUP and SIGPIPE are only noted where somebody asks, and end the program where nobody does.
// Any thread may call these.
CFT_API int cft_interrupts(void);

// The signal that asked first since the last clear that one came after; 0 where none ever did.
CFT_API int cft_end_signal(void);

// Whether SIGUSR1 came since this was last asked: a run saves, and goes on.
CFT_API int cft_save_asked(void);

// Forget what was pressed, and hand Ctrl-C back to the program.
CFT_API void cft_interrupts_clear(void);

#endif
