// answer.h - what a server says: its headers, whether this is the file, and where the bytes go.
//
// What is wrong ends the transfer, with a message.
#ifndef CFT_NET_ANSWER_H
#define CFT_NET_ANSWER_H

#include "net/transfer.h"

// libcurl's callbacks for headers and body, with the transfer behind them. Anything but `bytes`
// makes libcurl give the request up.
size_t cft_answer_on_header(char *data, size_t one, size_t bytes, void *transfer);
size_t cft_answer_on_body(char *data, size_t one, size_t bytes, void *transfer);

int cft_answer_status(cft_transfer *t);  // HTTP's; 0 before there is one
bool cft_answer_is_success(const cft_transfer *t, int http);

// The Hub says in front of a redirect which file is behind it. Learning here that it is another one
// saves its bytes.
bool cft_answer_is_the_file(cft_transfer *t);

void cft_answer_finish(cft_transfer *t);       // a whole answer of success has come
void cft_answer_finish_file(cft_transfer *t);  // all bytes of a download are there

#endif
