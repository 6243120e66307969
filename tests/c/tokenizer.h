// tokenizer.h - the tokenizer that the C suites look at: all bytes, a few merges, every kind of
// component in a file of two kilobytes.
#ifndef CFT_TEST_TOKENIZER_H
#define CFT_TEST_TOKENIZER_H

#include "cft_tokenizer.h"
#include "test.h"

// As GPT-2 spells it; 2 bytes and a NUL at most.
static inline const char *byte_name(int byte) {
  static char names[256][3];
  bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
  int point = itself ? byte : 256 + (byte < 33 ? byte : byte < 161 ? byte - 94 : 67);
  char *name = names[byte];
  if (point < 128) {
    name[0] = (char)point;
  } else {
    name[0] = (char)(0xC0 | point >> 6);
    name[1] = (char)(0x80 | (point & 63));
  }
  return name;
}

static inline const char *tiny_json(size_t *bytes) {
  static char json[8192];
  if (!*json) {
    char *to = json;
    to += sprintf(
        to,
        "{\"added_tokens\": [{\"id\": 300, \"content\": \"<|e|>\", \"special\": true, \"rstrip\": "
        "true},"
        " {\"id\": 301, \"content\": \"caf\\u00e9\", \"single_word\": true, \"normalized\": true}],"
        " \"normalizer\": {\"type\": \"NFC\"},"
        " \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": ["
        "{\"type\": \"Digits\", \"individual_digits\": true},"
        " {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(?i:'s)|\\\\p{L}+|\\\\s+(?!\\\\S)\"},"
        " \"behavior\": \"MergedWithNext\", \"invert\": false},"
        " {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(?<=x)y\"}, \"behavior\": \"Removed\"},"
        " {\"type\": \"ByteLevel\", \"add_prefix_space\": true}]},"
        " \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": ["
        "{\"SpecialToken\": {\"id\": \"<|e|>\"}}, {\"Sequence\": {\"id\": \"A\"}}],"
        " \"special_tokens\": {\"<|e|>\": {\"ids\": [300]}}},"
        " \"model\": {\"type\": \"BPE\", \"unk_token\": \"?\", \"ignore_merges\": true,"
        " \"merges\": [\"a b\", [\"ab\", \"c\"], \"Ġ a\"], \"vocab\": {");
    for (int byte = 0; byte < 256; byte++)  // but some, which become unk
      if (byte != 'q' && byte != '"' && byte != '\\')
        to += sprintf(to, "\"%s\": %d, ", byte_name(byte), byte);
    sprintf(to, "\"ab\": 256, \"abc\": 257, \"Ġa\": 258, \"<|e|>\": 300, \"caf\\u00e9\": 301}}}");
  }
  *bytes = strlen(json);
  return json;
}

// Characters and bytes to fall back on, as SentencePiece has them.
static inline const char *characters_json(size_t *bytes) {
  static char json[8192];
  if (!*json) {
    char *to = json;
    to += sprintf(
        to,
        "{\"added_tokens\": [{\"id\": 300, \"content\": \"<|e|>\", \"special\": true, \"rstrip\": "
        "true},"
        " {\"id\": 301, \"content\": \"caf\\u00e9\", \"normalized\": true}],"
        " \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": ["
        "{\"type\": \"NFC\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \"12\"}, "
        "\"content\": \"twelve\"}, {\"type\": \"Prepend\", \"prepend\": \"-\"}]},"
        " \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", "
        "\"prepend_scheme\": \"first\", \"split\": true},"
        " \"decoder\": {\"type\": \"Sequence\", \"decoders\": ["
        "{\"type\": \"Replace\", \"pattern\": {\"String\": \"\\u2581\"}, \"content\": \" \"},"
        " {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"},"
        " {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 1}]},"
        " \"model\": {\"type\": \"BPE\", \"unk_token\": \"?\", \"fuse_unk\": true, "
        "\"byte_fallback\": true,"
        " \"merges\": [\"a b\", [\"ab\", \"c\"], [\"\\u2581\", \"a\"]], \"vocab\": {");
    for (int byte = 0; byte < 256; byte++)  // but one, whose characters become unk
      if (byte != 0xF0) to += sprintf(to, "\"<0x%02X>\": %d, ", byte, byte);
    sprintf(to,
            "\"?\": 260, \"a\": 261, \"b\": 262, \"c\": 263, \"\\u2581\": 264, \"ab\": 256, "
            "\"abc\": 257, \"\\u2581a\": 258, \"<|e|>\": 300, \"caf\\u00e9\": 301}}}");
  }
  *bytes = strlen(json);
  return json;
}

static const char tiny_text[] =
    "abc cafe\xCC\x81 12's  xyq <|e|>  \xF0\x9F\x98\x80\xE6\xBC\xA2 "
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n\n z";

#endif
