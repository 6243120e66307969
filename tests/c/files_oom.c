// files_oom.c - memory runs out at every single allocation while files are read and written: the
// status is E_OOM, nothing leaks, the old file stays.
#include "cft_checkpoint.h"
#include "files.h"
#include "oom.h"
#include "test.h"

#ifdef CFT_TEST_OOM

static const char *path;    // of what is read or written
static const char *folder;  // that writing is to leave tidy

// Without memory even removing what was begun can fail; it is left for a later save to sweep, and
// removed here so that the next try has as much to do as this one.
static void tidy(void) {
  cft_names *names;
  if (!folder || cft_folder_list(&names, folder) != CFT_OK) return;
  for (int64_t i = 0; i < cft_names_count(names); ++i)
    if (strstr(cft_names_at(names, i), ".cft-tmp-"))
      (void)cft_path_remove(join(folder, cft_names_at(names, i)));
  cft_names_release(names);
}

static cft_status read_safetensors(void) {
  cft_safetensors *s = NULL;
  cft_status st = cft_safetensors_open(&s, path);
  cft_safetensors_release(s);
  return st;
}

static cft_status read_gguf(void) {
  cft_gguf *g = NULL;
  cft_status st = cft_gguf_open(&g, path);
  cft_gguf_release(g);
  return st;
}

static cft_status read_state(void) {
  cft_state_reader *r = NULL;
  cft_status st = cft_state_open(&r, path);
  cft_state_release(r);
  return st;
}

static cft_status write_all(void) {
  static const float x[8];
  const cft_array arrays[] = {{.name = "a", .data = x, .bytes = 16, .ndim = 1, .dims = {4}},
                              {.name = "b", .data = x, .bytes = 32, .ndim = 1, .dims = {8}}};
  cft_save *save = NULL;
  cft_state_writer *w = NULL;
  cft_status st;
  CFT_GO(cft_save_new(&save, path));
  CFT_GO(cft_safetensors_write(save, "model.safetensors", arrays, 2, 40));
  CFT_GO(cft_state_writer_new(&w, save, "ranks/0.msgpack"));
  CFT_GO(cft_state_put_array(w, &arrays[0]));
  CFT_GO(cft_state_put_data(w, x, 16));
  CFT_GO(cft_state_writer_commit(w));
  CFT_GO(cft_save_commit(save));
out:
  cft_state_writer_release(w);
  cft_save_release(save);
  return st;
}

static cft_status verify(void) { return cft_save_verify(path); }

TEST(reading) {
  path = golden_path("safetensors/shards");
  exhaust("shards", read_safetensors, tidy, true);
  path = golden_path("gguf/types.gguf");
  exhaust("gguf", read_gguf, tidy, false);
  path = golden_path("state/python.msgpack");
  exhaust("state", read_state, tidy, false);
}

TEST(writing) {
  folder = scratch("oom");
  path = join(folder, "c");
  exhaust("save", write_all, tidy, false);
  exhaust("replace", write_all, tidy, false);
  exhaust("verify", verify, tidy, false);
  EXPECT_INT(entries_in(folder), 1);
}

#else
TEST(sanitizer) { EXPECT_INT(entries_in(scratch("none")), 0); }
#endif

TEST_MAIN()
