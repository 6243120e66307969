// csv.h - rows of a CSV file as JSON: the header's names, and every value a text.
#ifndef CFT_DATA_CSV_H
#define CFT_DATA_CSV_H

#include "json_text.h"

typedef struct cft_csv cft_csv;

// Read the names from the header's row. E_FORMAT if it is broken or names a column twice; E_OOM.
cft_status cft_csv_new(cft_csv **out, const char *header, size_t n);
void cft_csv_release(cft_csv *c);  // NULL is accepted

// Write a row, without the line break at its end, as an object. *reason is NULL, or why it is a bad
// one, until the next call. E_OOM.
cft_status cft_csv_record(cft_csv *c, const char *row, size_t n, cft_text *out,
                          const char **reason);

#endif
