// cft_host.h - Ctrl-C, as the program around Lua counts it.
#ifndef CFT_HOST_H
#define CFT_HOST_H

#include "base.h"

// How often Ctrl-C (SIGINT) was pressed since the last clear; 0 if never.
//
// Asking means "I look after Ctrl-C myself": from the first call until the next clear, the first
// Ctrl-C is only counted, so that whoever asks can finish a step and save. Where nobody asks, it
// stops the Lua code that runs. The second one ends the program at once with exit code 130; at the
// prompt of the REPL it stops the Lua code instead.
// Any thread may call both.
CFT_API int cft_interrupts(void);

// Forget what was pressed, and hand Ctrl-C back to the program.
CFT_API void cft_interrupts_clear(void);

#endif
