// ras.h - what NCCL itself says of the ranks. From 2.24 on a thread of it in each process answers
// whoever asks at a port of the host (RAS): lines of text, after a greeting.
#ifndef CFT_COMM_RAS_H
#define CFT_COMM_RAS_H

#include "base.h"

enum {
  RAS_BYTES = 8000,  // of an answer, at most
  RAS_LINES = 60,
  RAS_WIDTH = 160,   // bytes of a line
  RAS_ADDRESSES = 4,
};

// Where it listens.
typedef struct ras_place {
  char named[128];  // as NCCL_RAS_ADDR has it
  char addresses[RAS_ADDRESSES][64];
  int count, port;
} ras_place;

// Find the addresses of "HOST:PORT" or "[ADDRESS]:PORT". E_ARG where it is malformed, or the host has no address.
cft_status ras_find(ras_place *place, const char *named);

// Ask, within so many seconds. What to print, which says whose answer it is and ends with a newline: at
// most RAS_LINES lines of it, without control characters. "" where nobody answers who speaks as NCCL does.
void ras_ask(char to[RAS_BYTES], const ras_place *place, double seconds);

#endif
