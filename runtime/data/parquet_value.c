// parquet_value.c - one value of a column as JSON: what its bytes mean is the schema's to say.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "parquet_impl.h"
#include "util/utf8.h"

static uint64_t little(const uint8_t *p, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value |= (uint64_t)p[i] << 8 * i;
  return value;
}

// ---- dates and times ---------------------------------------------------------------------------

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

// Year, month, day of a day counted from 1970-01-01.
// Source: https://howardhinnant.github.io/date_algorithms.html#civil_from_days
static void write_date(cft_text *t, int64_t day) {
  int64_t z = day + 719468, era = floor_div(z, 146097), of_era = z - era * 146097;
  int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
  int64_t shifted = (5 * of_year + 2) / 153;  // months from March on
  int64_t month = shifted < 10 ? shifted + 3 : shifted - 9;
  cft_text_print(t, "%04" PRId64 "-%02" PRId64 "-%02" PRId64, year + era * 400 + (month <= 2),
                 month, of_year - (153 * shifted + 2) / 5 + 1);
}

// A time of day in units of 10^-digits seconds, 0 <= time.
static void write_time(cft_text *t, int64_t time, int digits) {
  int64_t unit = digits == 3 ? 1000 : digits == 6 ? 1000000 : 1000000000;
  int64_t s = time / unit;
  cft_text_print(t, "%02" PRId64 ":%02" PRId64 ":%02" PRId64, s / 3600, s / 60 % 60, s % 60);
  if (time % unit) cft_text_print(t, ".%0*" PRId64, digits, time % unit);
}

static void write_timestamp(cft_text *t, int64_t value, const pq_node *n) {
  int64_t day = INT64_C(86400) * (n->digits == 3 ? 1000 : n->digits == 6 ? 1000000 : 1000000000);
  int64_t of_day = value % day;
  if (of_day < 0) of_day += day;
  write_date(t, floor_div(value, day));
  cft_text_put(t, 'T');
  write_time(t, of_day, n->digits);
  if (n->utc) cft_text_put(t, 'Z');
}

// The timestamp of old writers: nanoseconds of the day, and the Julian day.
static void write_int96(cft_text *t, const uint8_t *p) {
  uint64_t nanoseconds = little(p, 8);
  int64_t day = (int64_t)little(p + 8, 4) - 2440588;
  day += (int64_t)(nanoseconds / UINT64_C(86400000000000));
  write_date(t, day);
  cft_text_put(t, 'T');
  write_time(t, (int64_t)(nanoseconds % UINT64_C(86400000000000)), 9);
}

// ---- numbers -----------------------------------------------------------------------------------

// An integer of up to 16 bytes, the highest first, with a point before its last digits.
static void write_decimal(cft_text *t, const uint8_t *big_endian, size_t bytes, int digits) {
  bool negative = bytes && big_endian[0] & 0x80;
  unsigned __int128 value = negative ? ~(unsigned __int128)0 : 0;
  for (size_t i = 0; i < bytes; ++i) value = value << 8 | big_endian[i];
  if (negative) value = -value;
  char text[64], *end = text + sizeof text, *at = end;
  for (int written = 0; value || written <= digits; ++written, value /= 10) {
    if (written == digits && digits) *--at = '.';
    *--at = (char)('0' + (int)(value % 10));
  }
  if (negative) *--at = '-';
  cft_text_string(t, at, (size_t)(end - at));
}

static void write_integer_decimal(cft_text *t, uint64_t value, int bytes, int digits) {
  uint8_t big_endian[8];
  for (int i = 0; i < bytes; ++i) big_endian[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
  write_decimal(t, big_endian, (size_t)bytes, digits);
}

static double half(uint64_t bits) {
  int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
  double value = exponent == 31 ? (fraction ? NAN : INFINITY)
                 : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                : ldexp(fraction, -24);
  return bits >> 15 ? -value : value;
}

static void write_integer(cft_text *t, const pq_node *n, const uint8_t *p) {
  uint64_t bits = little(p, n->bytes);
  int64_t value = n->bytes == 4 ? (int32_t)(uint32_t)bits : (int64_t)bits;
  switch (n->meaning) {
    case PQ_UNSIGNED: cft_text_uint(t, bits); return;
    case PQ_DECIMAL: write_integer_decimal(t, bits, n->bytes, n->digits); return;
    case PQ_DATE:
    case PQ_TIME:
    case PQ_TIMESTAMP:
      cft_text_put(t, '"');
      if (n->meaning == PQ_DATE)
        write_date(t, value);
      else if (n->meaning == PQ_TIME)
        write_time(t, value < 0 ? 0 : value, n->digits);
      else
        write_timestamp(t, value, n);
      cft_text_put(t, '"');
      return;
    default: cft_text_int(t, value);
  }
}

// ---- any ---------------------------------------------------------------------------------------

static const char *write_bytes(cft_text *t, const pq_node *n, const uint8_t *p, size_t bytes) {
  if (n->meaning == PQ_DECIMAL) {
    if (bytes > 16) return "is a decimal of more than 16 bytes";
    write_decimal(t, p, bytes, n->digits);
  } else if (n->meaning == PQ_HALF) {
    cft_text_number(t, half(little(p, 2)));
  } else if (n->meaning == PQ_UUID) {
    cft_text_put(t, '"');
    for (int i = 0; i < 16; ++i) {
      bool dash = i == 4 || i == 6 || i == 8 || i == 10;
      cft_text_print(t, dash ? "-%02x" : "%02x", p[i]);
    }
    cft_text_put(t, '"');
  } else {
    if (cft_utf8_check(p, bytes) != bytes) return "is not UTF-8";
    cft_text_string(t, p, bytes);
  }
  return NULL;
}

static void write_bool(cft_text *t, bool value) {
  cft_text_add(t, value ? "true" : "false", value ? 4 : 5);
}

const char *pq_value_write(cft_text *t, const pq_node *n, const pq_page *page, int64_t i) {
  const pq_values *v = &page->values;
  if (page->dictionary) {
    i = v->at[i];
    v = &page->dictionary->values;
  }
  if (n->type == PQ_BOOLEAN) {
    write_bool(t, v->at ? v->at[i] : v->raw[i / 8] >> (i % 8) & 1);
    return NULL;
  }
  if (n->type == PQ_BYTES) {
    const uint8_t *p = v->raw + v->at[i];
    return write_bytes(t, n, p + 4, (size_t)little(p, 4));
  }
  const uint8_t *p = v->raw + i * n->bytes;
  switch (n->type) {
    case PQ_FLOAT: {
      uint32_t bits = (uint32_t)little(p, 4);
      float value;
      memcpy(&value, &bits, sizeof value);
      cft_text_number(t, (double)value);
      return NULL;
    }
    case PQ_DOUBLE: {
      uint64_t bits = little(p, 8);
      double value;
      memcpy(&value, &bits, sizeof value);
      cft_text_number(t, value);
      return NULL;
    }
    case PQ_INT96:
      cft_text_put(t, '"');
      write_int96(t, p);
      cft_text_put(t, '"');
      return NULL;
    case PQ_FIXED: return write_bytes(t, n, p, (size_t)n->bytes);
    default: write_integer(t, n, p); return NULL;
  }
}
