/* golden: made by tinykit. Do not edit. */

#include "golden.h"
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#define TK_KERNEL static __attribute__((noinline, noclone))
#elif defined(__clang__)
#define TK_KERNEL static __attribute__((noinline))
#else
#define TK_KERNEL static
#endif

/* Called after every layer with its number; a profiler may define it. As it is, it keeps a compiler from leaving out a layer whose result
   nobody reads: the n-th call stays the n-th layer. */
#ifndef TK_AFTER_LAYER
#if defined(__GNUC__)
#define TK_AFTER_LAYER(arena, layer) __asm__ volatile("" : : : "memory");
#else
#define TK_AFTER_LAYER(arena, layer)
#endif
#endif

static inline int32_t tk_clamp(int32_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* acc * multiplier / 2^(31 + shift), rounded twice as gemmlowp does; 1 <= shift <= 31, |acc| < 2^30. */
static inline int32_t tk_scale(uint32_t acc, int32_t multiplier, int32_t shift)
{
    /* twice the sum, so that the high word of the product is the result and no word is put together from two */
    const int32_t high = (int32_t)(((int64_t)(int32_t)(acc * 2) * multiplier + ((int64_t)1 << 31)) >> 32);
    return (high + (high >> 31) + (1 << (shift - 1))) >> shift;
}

static const int8_t tk_w_0_weights[54] = {
    -95, 65, 114, 122, 31, 94, -34, -91, 2, -15, 41, 126, -58, 91, -93, -39, 73, -65, 43, -11, 3, 112, 81, 86,
    12, 123, 123, -94, -76, -50, 13, 82, -5, 123, -38, 109, 23, 56, -68, 23, 77, 98, 94, 119, -96, 71, -9, 47,
    -58, -125, -107, 121, 101, -51};

static const int32_t tk_q_0_bias[3] = {
    -34970, -77265, -39741};

static const int32_t tk_q_0_multiplier[3] = {
    2032541654, 1162815304, 2013654208};

static const int8_t tk_q_0_shift[3] = {
    6, 9, 9};

static const int8_t tk_w_1_weights[81] = {
    -6, -90, 14, 32, -83, -92, 41, -15, -5, 73, 47, 101, -86, 66, 10, -119, -110, -36, 35, -87, 11, 127, -92, -92,
    119, -66, 95, -37, 65, -113, 33, 94, -42, 34, -73, -88, -128, -1, 5, -108, -70, 28, -35, -69, -127, -119, 35, -99,
    88, 14, -64, 35, -87, -45, -1, 36, -93, -38, -105, -95, -71, -48, 104, -27, -101, 105, 17, -99, -107, -106, 105, 15,
    46, 118, -26, 104, -25, 51, 83, -111, 59};

static const int32_t tk_q_1_bias[3] = {
    1980, 3104, 2302};

static const int32_t tk_q_1_multiplier[3] = {
    1700314725, 1448312829, 1669050828};

static const int8_t tk_q_1_shift[3] = {
    9, 8, 8};

static const int8_t tk_w_2_weights[15] = {
    58, 103, 62, -124, -8, 32, -42, -50, -42, 50, 100, -88, -127, 127, -106};

static const int32_t tk_q_2_bias[5] = {
    -574, 913, -3826, -2667, -2452};

static const int32_t tk_q_2_multiplier[5] = {
    1685101805, 1185354456, 1083042692, 1694164911, 1160139016};

static const int8_t tk_q_2_shift[5] = {
    9, 5, 8, 4, 8};

static const int8_t tk_w_3_weights[45] = {
    70, 86, 37, -113, 61, -80, -36, -2, -66, -84, -126, 61, -92, -122, 46, -53, -55, -48, -1, -9, 124, 25, -22, -105,
    112, 90, -6, -122, -19, -78, 94, 78, 50, 58, 114, -62, -123, -96, 108, 101, 7, -124, 39, -73, -25};

static const int32_t tk_q_3_bias[5] = {
    5130, 56140, -27984, -10806, 22125};

static const int32_t tk_q_3_multiplier[5] = {
    1521389714, 1299022645, 1181357092, 1552068376, 1892145439};

static const int8_t tk_q_3_shift[5] = {
    6, 10, 10, 5, 7};

static const int8_t tk_w_4_weights[15] = {
    70, -48, 127, 63, 96, -118, -101, -111, 8, -25, 122, -66, -85, 88, -51};

static const int32_t tk_q_4_bias[3] = {
    43342, -44392, -282};

static const int8_t tk_w_7_weights[48] = {
    77, -65, 26, 76, 28, -128, -120, 33, 55, -93, -67, -22, 23, -119, 75, 49, 77, -29, 31, 13, 84, -53, -53, 8,
    66, -1, -37, 44, 41, 18, 109, 67, -60, -55, 60, 4, -109, 8, -33, -23, 74, 27, -54, -63, -39, 44, -95, -51};

static const int32_t tk_q_7_bias[4] = {
    -23224, 36982, 12036, -8016};

static const int8_t tk_c_pad_0[3] = {
    0, 0, 0};

static const int8_t tk_c_pad_127[5] = {
    127, 127, 127, 127, 127};

TK_KERNEL void tk_conv2d_3x3(const int8_t *in, int8_t *out, const int8_t *weights, const int32_t *bias, const int32_t *multiplier,
                             const int8_t *shift, int32_t out_zero, int32_t act_min, const int8_t *padding, int32_t depth,
                             int32_t out_h, int32_t step_y)
{
    enum { act_max = 127, in_h = 7, in_w = 5, out_w = 5, first_y = -1, first_x = -1, step_x = 1, out_step = 3, dilation_h = 1,
           dilation_w = 1, channels = 3 };
    enum { KERNEL_H = 3, KERNEL_W = 3, TAPS = 9 };
    for (int32_t y = 0, row = first_y, to = 0; y < out_h; ++y, row += step_y) {
        for (int32_t x = 0, column = first_x; x < out_w; ++x, column += step_x, to += out_step) {
            int8_t *const result = out + to;
            const int8_t *tap[TAPS];
            for (int32_t i = 0; i < KERNEL_H; ++i) {
                const int32_t r = row + i * dilation_h;
                for (int32_t j = 0; j < KERNEL_W; ++j) {
                    const int32_t s = column + j * dilation_w;
                    const int inside = (uint32_t)r < (uint32_t)in_h && (uint32_t)s < (uint32_t)in_w;
                    tap[i * KERNEL_W + j] = inside ? in + (r * in_w + s) * depth : padding;
                }
            }
            const int8_t *w = weights;
            int32_t c = 0;
            for (; c + 4 <= channels; c += 4) {
                uint32_t a0 = (uint32_t)bias[c], a1 = (uint32_t)bias[c + 1], a2 = (uint32_t)bias[c + 2], a3 = (uint32_t)bias[c + 3];
                for (int32_t t = 0; t < TAPS; ++t) {
                    const int8_t *const p = tap[t];
                    for (int32_t k = 0; k < depth; ++k, w += 4) {
                        const int32_t v = p[k];
                        a0 += (uint32_t)(v * w[0]);
                        a1 += (uint32_t)(v * w[1]);
                        a2 += (uint32_t)(v * w[2]);
                        a3 += (uint32_t)(v * w[3]);
                    }
                }
                result[c] = (int8_t)tk_clamp(tk_scale(a0, multiplier[c], shift[c]) + out_zero, act_min, act_max);
                result[c + 1] = (int8_t)tk_clamp(tk_scale(a1, multiplier[c + 1], shift[c + 1]) + out_zero, act_min, act_max);
                result[c + 2] = (int8_t)tk_clamp(tk_scale(a2, multiplier[c + 2], shift[c + 2]) + out_zero, act_min, act_max);
                result[c + 3] = (int8_t)tk_clamp(tk_scale(a3, multiplier[c + 3], shift[c + 3]) + out_zero, act_min, act_max);
            }
            for (; c < channels; ++c) {
                uint32_t a = (uint32_t)bias[c];
                for (int32_t t = 0; t < TAPS; ++t) {
                    const int8_t *const p = tap[t];
                    for (int32_t k = 0; k < depth; ++k) {
                        a += (uint32_t)(p[k] * *w++);
                    }
                }
                result[c] = (int8_t)tk_clamp(tk_scale(a, multiplier[c], shift[c]) + out_zero, act_min, act_max);
            }
        }
    }
}

TK_KERNEL void tk_matmul(const int8_t *in, int8_t *out)
{
    enum { out_zero = 127, act_min = -128, act_max = 127, out_h = 1, out_w = 35, depth = 3, channels = 5, in_step = 3, row_step = 0,
           out_step = 5 };
    const int8_t *weights = tk_w_2_weights;
    const int32_t *bias = tk_q_2_bias;
    const int32_t *multiplier = tk_q_2_multiplier;
    const int8_t *shift = tk_q_2_shift;
    for (int32_t y = out_h, from = 0, to = 0; y > 0; --y, from += row_step) {
        for (int32_t x = out_w; x > 0; --x, from += in_step, to += out_step) {
            const int8_t *const pixel = in + from, *w = weights;
            int8_t *const result = out + to;
            int32_t c = 0;
            for (; c + 4 <= channels; c += 4) {
                uint32_t a0 = (uint32_t)bias[c], a1 = (uint32_t)bias[c + 1], a2 = (uint32_t)bias[c + 2], a3 = (uint32_t)bias[c + 3];
                for (int32_t k = 0; k < depth; ++k, w += 4) {
                    const int32_t v = pixel[k];
                    a0 += (uint32_t)(v * w[0]);
                    a1 += (uint32_t)(v * w[1]);
                    a2 += (uint32_t)(v * w[2]);
                    a3 += (uint32_t)(v * w[3]);
                }
                result[c] = (int8_t)tk_clamp(tk_scale(a0, multiplier[c], shift[c]) + out_zero, act_min, act_max);
                result[c + 1] = (int8_t)tk_clamp(tk_scale(a1, multiplier[c + 1], shift[c + 1]) + out_zero, act_min, act_max);
                result[c + 2] = (int8_t)tk_clamp(tk_scale(a2, multiplier[c + 2], shift[c + 2]) + out_zero, act_min, act_max);
                result[c + 3] = (int8_t)tk_clamp(tk_scale(a3, multiplier[c + 3], shift[c + 3]) + out_zero, act_min, act_max);
            }
            for (; c < channels; ++c) {
                uint32_t a = (uint32_t)bias[c];
                for (int32_t k = 0; k < depth; ++k) {
                    a += (uint32_t)(pixel[k] * *w++);
                }
                result[c] = (int8_t)tk_clamp(tk_scale(a, multiplier[c], shift[c]) + out_zero, act_min, act_max);
            }
        }
    }
}

TK_KERNEL void tk_depthwise_3x3(const int8_t *in, int8_t *out)
{
    enum { out_zero = -128, act_min = -128, act_max = 127, in_h = 7, in_w = 5, depth = 5, out_h = 4, out_w = 5, first_y = 5,
           first_x = 3, step_y = -2, step_x = -1, out_step = -5, dilation_h = 1, dilation_w = 1 };
    const int8_t *weights = tk_w_3_weights;
    const int32_t *bias = tk_q_3_bias;
    const int32_t *multiplier = tk_q_3_multiplier;
    const int8_t *shift = tk_q_3_shift;
    const int8_t *padding = tk_c_pad_127;
    enum { KERNEL_H = 3, KERNEL_W = 3, TAPS = 9 };
    for (int32_t y = 0, row = first_y, to = 0; y < out_h; ++y, row += step_y) {
        for (int32_t x = 0, column = first_x; x < out_w; ++x, column += step_x, to += out_step) {
            int8_t *const result = out + to;
            const int8_t *tap[TAPS];
            for (int32_t i = 0; i < KERNEL_H; ++i) {
                const int32_t r = row + i * dilation_h;
                for (int32_t j = 0; j < KERNEL_W; ++j) {
                    const int32_t s = column + j * dilation_w;
                    const int inside = (uint32_t)r < (uint32_t)in_h && (uint32_t)s < (uint32_t)in_w;
                    tap[i * KERNEL_W + j] = inside ? in + (r * in_w + s) * depth : padding;
                }
            }
            const int8_t *w = weights;
            for (int32_t c = 0; c < depth; ++c, w += TAPS) {
                uint32_t a = (uint32_t)bias[c];
                for (int32_t t = 0; t < TAPS; ++t) {
                    a += (uint32_t)(tap[t][c] * w[t]);
                }
                result[c] = (int8_t)tk_clamp(tk_scale(a, multiplier[c], shift[c]) + out_zero, act_min, act_max);
            }
        }
    }
}

TK_KERNEL void tk_matmul_pt(const int8_t *in, int8_t *out, const int8_t *weights, const int32_t *bias, int32_t multiplier,
                            int32_t shift, int32_t out_w, int32_t depth, int32_t channels, int32_t in_step, int32_t out_step)
{
    enum { out_zero = 127, act_min = -128, act_max = 127, out_h = 1, row_step = 0 };
    for (int32_t y = out_h, from = 0, to = 0; y > 0; --y, from += row_step) {
        for (int32_t x = out_w; x > 0; --x, from += in_step, to += out_step) {
            const int8_t *const pixel = in + from, *w = weights;
            int8_t *const result = out + to;
            int32_t c = 0;
            for (; c + 4 <= channels; c += 4) {
                uint32_t a0 = (uint32_t)bias[c], a1 = (uint32_t)bias[c + 1], a2 = (uint32_t)bias[c + 2], a3 = (uint32_t)bias[c + 3];
                for (int32_t k = 0; k < depth; ++k, w += 4) {
                    const int32_t v = pixel[k];
                    a0 += (uint32_t)(v * w[0]);
                    a1 += (uint32_t)(v * w[1]);
                    a2 += (uint32_t)(v * w[2]);
                    a3 += (uint32_t)(v * w[3]);
                }
                result[c] = (int8_t)tk_clamp(tk_scale(a0, multiplier, shift) + out_zero, act_min, act_max);
                result[c + 1] = (int8_t)tk_clamp(tk_scale(a1, multiplier, shift) + out_zero, act_min, act_max);
                result[c + 2] = (int8_t)tk_clamp(tk_scale(a2, multiplier, shift) + out_zero, act_min, act_max);
                result[c + 3] = (int8_t)tk_clamp(tk_scale(a3, multiplier, shift) + out_zero, act_min, act_max);
            }
            for (; c < channels; ++c) {
                uint32_t a = (uint32_t)bias[c];
                for (int32_t k = 0; k < depth; ++k) {
                    a += (uint32_t)(pixel[k] * *w++);
                }
                result[c] = (int8_t)tk_clamp(tk_scale(a, multiplier, shift) + out_zero, act_min, act_max);
            }
        }
    }
}

TK_KERNEL void tk_add(const int8_t *a, const int8_t *b, int8_t *out)
{
    enum { a_zero = 127, a_factor = 524288, b_zero = 17, b_left = 20, b_multiplier = 1793724828, b_shift = 2, b_sign = 1,
           multiplier = 1431655810, shift = 19, out_zero = 78, act_min = -128, act_max = 127, i_first = 0, j_first = 0, k_first = 0,
           count_0 = 60, i_step_0 = 1, j_step_0 = 1, k_step_0 = 1 };
    int32_t i = i_first, j = j_first, k = k_first;
    for (int32_t n0 = count_0; n0 > 0; --n0) {
        const int32_t scaled = tk_scale((uint32_t)(b[j] - b_zero) << b_left, b_multiplier, b_shift);
        const int32_t total = (a[i] - a_zero) * a_factor + b_sign * scaled;
        out[k] = (int8_t)tk_clamp(tk_scale((uint32_t)total, multiplier, shift) + out_zero, act_min, act_max);
        i += i_step_0;
        j += j_step_0;
        k += k_step_0;
    }
}

TK_KERNEL void tk_average_pool(const int8_t *in, int8_t *out)
{
    enum { in_h = 4, in_w = 5, depth = 3, out_h = 2, out_w = 2, window_h = 2, window_w = 2, first_y = 2, first_x = 2, step_y = -2,
           step_x = -2, k_first = 9, k_step = -3, act_min = -128, act_max = 127 };
    int32_t k = k_first;
    for (int32_t y = 0, row = first_y; y < out_h; ++y, row += step_y) {
        const int32_t top = row > 0 ? row : 0, bottom = row + window_h < in_h ? row + window_h : in_h;
        for (int32_t x = 0, column = first_x; x < out_w; ++x, column += step_x, k += k_step) {
            const int32_t left = column > 0 ? column : 0, right = column + window_w < in_w ? column + window_w : in_w;
            const int32_t taps = (bottom - top) * (right - left), count = bottom > top && right > left ? taps : 1, half = count / 2;
            int32_t c = 0;
            for (; c + 4 <= depth; c += 4) {
                int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
                for (int32_t r = top; r < bottom; ++r) {
                    for (int32_t s = left, i = (r * in_w + left) * depth + c; s < right; ++s, i += depth) {
                        a0 += in[i];
                        a1 += in[i + 1];
                        a2 += in[i + 2];
                        a3 += in[i + 3];
                    }
                }
                out[k + c] = (int8_t)tk_clamp((a0 > 0 ? a0 + half : a0 - half) / count, act_min, act_max);
                out[k + c + 1] = (int8_t)tk_clamp((a1 > 0 ? a1 + half : a1 - half) / count, act_min, act_max);
                out[k + c + 2] = (int8_t)tk_clamp((a2 > 0 ? a2 + half : a2 - half) / count, act_min, act_max);
                out[k + c + 3] = (int8_t)tk_clamp((a3 > 0 ? a3 + half : a3 - half) / count, act_min, act_max);
            }
            for (; c < depth; ++c) {
                int32_t a = 0;
                for (int32_t r = top; r < bottom; ++r) {
                    for (int32_t s = left, i = (r * in_w + left) * depth + c; s < right; ++s, i += depth) {
                        a += in[i];
                    }
                }
                out[k + c] = (int8_t)tk_clamp((a > 0 ? a + half : a - half) / count, act_min, act_max);
            }
        }
    }
}

void golden_invoke(void *memory)
{
    int8_t *const arena = memory;
    /* 0: op0, 7x5x2 -> 7x5x3, 1890 MACs */
    tk_conv2d_3x3(arena + 0, arena + 76, tk_w_0_weights, tk_q_0_bias, tk_q_0_multiplier, tk_q_0_shift, 0, 0, tk_c_pad_127, 2, 7,
        1);
    TK_AFTER_LAYER(memory, 0)
    /* 1: op4, 7x5x3 -> 4x5x3, 1620 MACs */
    tk_conv2d_3x3(arena + 76, arena + 188, tk_w_1_weights, tk_q_1_bias, tk_q_1_multiplier, tk_q_1_shift, 17, -128, tk_c_pad_0,
        3, 4, 2);
    TK_AFTER_LAYER(memory, 1)
    /* 2: op1, 7x5x3 -> 7x5x5, 525 MACs */
    tk_matmul(arena + 76, arena + 0);
    TK_AFTER_LAYER(memory, 2)
    /* 3: op2, 7x5x5 -> 4x5x5, 900 MACs */
    tk_depthwise_3x3(arena + 0, arena + 183);
    TK_AFTER_LAYER(memory, 3)
    /* 4: op3, 4x5x5 -> 4x5x3, 300 MACs */
    tk_matmul_pt(arena + 88, arena + 0, tk_w_4_weights, tk_q_4_bias, 1536614146, 6, 20, 5, 3, 5, 3);
    TK_AFTER_LAYER(memory, 4)
    /* 5: op5, 4x5x3, 4x5x3 -> 4x5x3 */
    tk_add(arena + 0, arena + 188, arena + 0);
    TK_AFTER_LAYER(memory, 5)
    /* 6: op6, 4x5x3 -> 2x2x3 */
    tk_average_pool(arena + 0, arena + 48);
    TK_AFTER_LAYER(memory, 6)
    /* 7: op7, 2x2x3 -> 4, 48 MACs */
    tk_matmul_pt(arena + 48, arena + 0, tk_w_7_weights, tk_q_7_bias, 1983760365, 7, 1, 12, 4, 12, 4);
    TK_AFTER_LAYER(memory, 7)
}

int8_t *golden_input(void *memory)
{
    return (void *)((char *)memory + 0);
}

const int8_t *golden_output(const void *memory)
{
    return (const void *)((const char *)memory + 0);
}

void golden_load(void *memory, const void *bytes)
{
    memcpy((char *)memory + 0, (const char *)bytes + 0, 70);
}

void golden_store(const void *memory, void *bytes)
{
    memcpy((char *)bytes + 0, (const char *)memory + 0, 4);
}

uint32_t golden_check(const void *memory, const void *expected)
{
    const char *const output = memory, *const wanted = expected;
    uint32_t wrong = 0;
    for (int32_t i = 0; i < 4; ++i) {
        wrong += output[0 + i] != wanted[0 + i];
    }
    return wrong;
}

void golden_run(void *memory, const void *input, void *output)
{
    golden_load(memory, input);
    golden_invoke(memory);
    golden_store(memory, output);
}
