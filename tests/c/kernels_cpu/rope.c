// rope.c - rotary positions, both ways, in place and not.
#include "harness.h"

EVERYWHERE(rope) {
  static const struct {
    int64_t n, heads, d, pad;
  } cases[] = {{0, 1, 4, 0}, {1, 1, 2, 0}, {5, 3, 6, 2}, {70, 9, 64, 5}, {3, 2, 38, 1}};
  cft_dtype sum = sum_dtype(dtype);
  for (int k = 0; k < 5; k++)
    for (int inverse = 0; inverse < 2; inverse++)
      for (int in_place = 0; in_place < 2; in_place++) {
        int64_t n = cases[k].n, heads = cases[k].heads, d = cases[k].d, half = d / 2;
        int64_t stride = heads * d + cases[k].pad, positions = 40;
        void *cosine = array(positions * half, sum), *sine = array(positions * half, sum);
        for (int64_t i = 0; i < positions * half; i++) {
          put(cosine, sum, i, cos((double)i)), put(sine, sum, i, sin((double)i));
        }
        int32_t *position = array(n, CFT_I32);
        for (int64_t i = 0; i < n; i++) position[i] = (int32_t)below(positions);
        void *x = numbers(n * stride, dtype), *x0 = copied(x, n * stride, dtype);
        void *y = in_place ? x : constant(n * stride, dtype, 9);
        RUN(rope, (cft_rope_args){y, x, cosine, sine, position, n, heads, d, stride, stride,
                                  inverse, dtype});
        note(y, (size_t)(n * stride) * cft_dtype_bytes(dtype));
        for (int64_t i = 0; i < n * stride; i++) {
          int64_t row = i / stride, j = i % stride;
          if (j >= heads * d) {  // between rows nothing is written
            EXPECT_CLOSE(get(y, dtype, i), in_place ? get(x0, dtype, i) : 9, 0);
            continue;
          }
          int upper = j % d >= half;
          int64_t angle = position[row] * half + j % d % half;
          double c = get(cosine, sum, angle), t = get(sine, sum, angle) * (inverse ? -1 : 1);
          double own = get(x0, dtype, i), other = get(x0, dtype, upper ? i - half : i + half);
          EXPECT_NEAR(y, i, own * c + (upper ? other : -other) * t, 2, sum, dtype);
        }
        free_arrays();
      }
}

TEST_MAIN()
