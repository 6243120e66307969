// line.h - one line from a person or a pipe. The only place that knows which editing library
// this is (libedit: BSD licence; readline is GPL).
#ifndef CFT_LUA_LINE_H
#define CFT_LUA_LINE_H

#include <stddef.h>

typedef struct line line;

typedef enum line_result {
  LINE_TEXT,
  LINE_END,        // Ctrl-D on an empty line, or the end of the pipe
  LINE_ABANDONED,  // Ctrl-C: drop what was typed
} line_result;

// Edits where stdin and stdout are a terminal, and reads plainly elsewhere. `history` is the file
// that remembers lines between runs; its folder exists. NULL: remember nothing. Returns NULL when
// out of memory.
line *line_open(const char *program, const char *history);

// What Tab does: of the `bytes` of text before the cursor, what to put in (NULL: nothing) and what to
// show below the line (NULL: nothing). Both are borrowed until the next call.
typedef void line_completer(void *data, const char *text, size_t bytes, const char **insert,
                            const char **shown);
void line_on_tab(line *l, line_completer *completer, void *data);

// Is there a person to prompt?
int line_is_edited(const line *l);

// The next line without its newline; valid until the next call.
line_result line_read(line *l, const char *prompt, const char **text, size_t *bytes);

// Put an entry, of one line or several, into the history, at once also in its file.
void line_remember(line *l, const char *text);

void line_close(line *l);

#endif
