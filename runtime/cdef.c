// cdef.c - hands out the declarations that the build made of cft.h.
#include "cft.h"

extern const char cft_cdef_text[];

const char *cft_cdef(void) { return cft_cdef_text; }
