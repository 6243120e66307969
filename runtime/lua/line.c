// line.c - see line.h.
#include "line.h"

#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HISTORY_ENTRIES = 1000 };

struct line {
  EditLine *edit;  // NULL: plain reading
  History *history;
  char *history_path;
  const char *prompt;
  line_completer *completer;
  void *completer_data;
  bool abandoned;
  char *plain;  // getline's buffer
  size_t plain_capacity;
};

static line *line_of(EditLine *edit) {
  void *l = NULL;
  el_get(edit, EL_CLIENTDATA, &l);
  return l;
}

static char *prompt_of(EditLine *edit) { return (char *)(uintptr_t)line_of(edit)->prompt; }

static unsigned char abandon(EditLine *edit, int key) {
  (void)key;
  line_of(edit)->abandoned = true;
  return CC_EOF;
}

static unsigned char suspend(EditLine *edit, int key) {
  (void)key;
  el_set(edit, EL_PREP_TERM, 0);
  raise(SIGTSTP);
  el_set(edit, EL_PREP_TERM, 1);
  return CC_REDISPLAY;
}

static unsigned char complete(EditLine *edit, int key) {
  (void)key;
  line *l = line_of(edit);
  if (!l->completer) return CC_ERROR;
  const LineInfo *at = el_line(edit);
  const char *insert = NULL, *shown = NULL;
  l->completer(l->completer_data, at->buffer, (size_t)(at->cursor - at->buffer), &insert, &shown);
  if (shown) {
    printf("\n%s\n", shown);
    return CC_REDISPLAY;
  }
  if (!insert || !*insert) return CC_REFRESH_BEEP;
  return el_insertstr(edit, insert) == 0 ? CC_REFRESH : CC_ERROR;
}

static void open_history(line *l, const char *path) {
  HistEvent event;
  l->history = history_init();
  if (!l->history) return;
  history(l->history, &event, H_SETSIZE, HISTORY_ENTRIES);
  history(l->history, &event, H_SETUNIQUE, 1);  // the same line twice in a row is one entry
  el_set(l->edit, EL_HIST, history, l->history);
  if (path && (l->history_path = strdup(path))) history(l->history, &event, H_LOAD, path);
}

static bool open_editor(line *l, const char *program) {
  // Letters beyond ASCII are edited as letters only in a UTF-8 locale. Numbers keep the C locale.
  setlocale(LC_CTYPE, "");
  if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0) setlocale(LC_CTYPE, "C.UTF-8");
  l->edit = el_init(program, stdin, stdout, stderr);
  if (!l->edit) return false;
  el_set(l->edit, EL_CLIENTDATA, l);
  el_set(l->edit, EL_PROMPT, prompt_of);
  el_set(l->edit, EL_EDITOR, "emacs");
  // While a line is edited Ctrl-C is a key, not a signal: there is nothing to interrupt, and
  // libedit's own handling of the signal leaves the line on the screen. That takes all keys of
  // signals, so Ctrl-Z is bound too.
  el_set(l->edit, EL_SETTY, "-d", "-isig", NULL);
  // (The wide form: el_set copies these names and forgets the copies.)
  el_wset(l->edit, EL_ADDFN, L"abandon-line", L"drop what was typed", abandon);
  el_wset(l->edit, EL_ADDFN, L"suspend", L"stop the program until fg", suspend);
  el_wset(l->edit, EL_ADDFN, L"complete", L"complete a name", complete);
  el_set(l->edit, EL_BIND, "^I", "complete", NULL);
  el_set(l->edit, EL_BIND, "^C", "abandon-line", NULL);
  el_set(l->edit, EL_BIND, "^Z", "suspend", NULL);
  el_set(l->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
  el_source(l->edit, NULL);  // ~/.editrc has the last word
  return true;
}

line *line_open(const char *program, const char *history) {
  line *l = calloc(1, sizeof *l);
  if (!l) return NULL;
  if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && open_editor(l, program))
    open_history(l, history);
  return l;
}

void line_on_tab(line *l, line_completer *completer, void *data) {
  l->completer = completer;
  l->completer_data = data;
}

int line_is_edited(const line *l) { return l->edit != NULL; }

line_result line_read(line *l, const char *prompt, const char **text, size_t *bytes) {
  if (!l->edit) {
    ssize_t n = getline(&l->plain, &l->plain_capacity, stdin);
    if (n < 0) return LINE_END;
    if (n > 0 && l->plain[n - 1] == '\n') --n;
    l->plain[n] = '\0';
    *text = l->plain;
    *bytes = (size_t)n;
    return LINE_TEXT;
  }
  int n = 0;
  l->prompt = prompt;
  l->abandoned = false;
  el_set(l->edit, EL_PREP_TERM, 1);  // before the prompt: keys typed at once are keys already
  const char *got = el_gets(l->edit, &n);
  if (l->abandoned) {
    fputs("^C\n", stdout);
    el_reset(l->edit);
    return LINE_ABANDONED;
  }
  if (!got || n <= 0) {
    fputc('\n', stdout);
    return LINE_END;
  }
  if (got[n - 1] == '\n') --n;
  *text = got;
  *bytes = (size_t)n;
  return LINE_TEXT;
}

void line_remember(line *l, const char *text) {
  HistEvent event;
  if (!l->history || !*text) return;
  history(l->history, &event, H_ENTER, text);
  if (l->history_path) history(l->history, &event, H_SAVE, l->history_path);
}

void line_close(line *l) {
  if (!l) return;
  if (l->history) history_end(l->history);
  if (l->edit) el_end(l->edit);
  free(l->history_path);
  free(l->plain);
  free(l);
}
