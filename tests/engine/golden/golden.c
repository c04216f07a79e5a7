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

/* Helpers; some are called only where others have no assembly. */
#if defined(__GNUC__)
#define TK_INLINE static inline __attribute__((unused))
#else
#define TK_INLINE static inline
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

/* TK_DSP: a core with the instructions of ARMv7E-M and loads of words at any address, a compiler that takes GCC's assembly. Elsewhere twins
   in C give the same results. */
#if defined(__GNUC__) && defined(__thumb2__) && defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_UNALIGNED)
#define TK_DSP 1
#else
#define TK_DSP 0
#endif
#if defined(__BYTE_ORDER__) && defined(__ORDER_LITTLE_ENDIAN__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernels and tables are for little-endian machines"
#endif

/* The two int16 of a word. */
TK_INLINE int32_t tk_low(uint32_t x)
{
    return (int16_t)(x & 0xffff);
}

TK_INLINE int32_t tk_high16(uint32_t x)
{
    return (int16_t)(x >> 16);
}

/* Words at any address. */
TK_INLINE uint32_t tk_load32(const void *p)
{
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

TK_INLINE void tk_load32x2(const void *p, uint32_t *first, uint32_t *second)
{
    *first = tk_load32(p);
    *second = tk_load32((const char *)p + 4);
}

TK_INLINE void tk_store32(void *p, uint32_t x)
{
    memcpy(p, &x, 4);
}

/* acc + low a * low b + high a * high b, modulo 2^32. */
TK_INLINE uint32_t tk_smlad(uint32_t a, uint32_t b, uint32_t acc)
{
#if TK_DSP
    uint32_t r;
    __asm__("smlad %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc));
    return r;
#else
    return (uint32_t)(tk_low(a) * tk_low(b)) + (uint32_t)(tk_high16(a) * tk_high16(b)) + acc;
#endif
}

/* Bytes 0 and 2 as lanes. */
TK_INLINE uint32_t tk_sxtb16(uint32_t x)
{
#if TK_DSP
    uint32_t r;
    __asm__("sxtb16 %0, %1" : "=r"(r) : "r"(x));
    return r;
#else
    return (uint32_t)(uint16_t)(int8_t)(x & 0xff) | (uint32_t)(uint16_t)(int8_t)(x >> 16 & 0xff) << 16;
#endif
}

/* Bytes 1 and 3 as lanes. */
TK_INLINE uint32_t tk_sxtb16_ror8(uint32_t x)
{
#if TK_DSP
    uint32_t r;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(r) : "r"(x));
    return r;
#else
    return (uint32_t)(uint16_t)(int8_t)((x >> 8) & 0xff) | (uint32_t)(uint16_t)(int8_t)((x >> 8) >> 16 & 0xff) << 16;
#endif
}

/* a * b / 2^32, rounded, ties upwards. */
TK_INLINE int32_t tk_smmulr(int32_t a, int32_t b)
{
#if TK_DSP
    int32_t r;
    __asm__("smmulr %0, %1, %2" : "=r"(r) : "r"(a), "r"(b));
    return r;
#else
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32);
#endif
}

/* acc + a * b / 2^32, rounded, ties upwards. */
TK_INLINE int32_t tk_smmlar(int32_t a, int32_t b, int32_t acc)
{
#if TK_DSP
    int32_t r;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc));
    return r;
#else
    return (int32_t)((uint32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32) + (uint32_t)acc);
#endif
}

/* The low half of a, and the low half of b above it. */
TK_INLINE uint32_t tk_pkhbt(uint32_t a, uint32_t b)
{
#if TK_DSP
    uint32_t r;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(r) : "r"(a), "r"(b));
    return r;
#else
    return (a & 0xffff) | b << 16;
#endif
}

/* x within -128..127. */
TK_INLINE int32_t tk_ssat8(int32_t x)
{
#if TK_DSP
    int32_t r;
    __asm__("ssat %0, #8, %1" : "=r"(r) : "r"(x));
    return r;
#else
    return x < -128 ? -128 : x > 127 ? 127 : x;
#endif
}

TK_INLINE int32_t tk_clamp(int32_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* Before a loop that runs too seldom to be worth the flash of its copies: compilers unroll loops of a known length. */
#if defined(__clang__)
#define TK_ROLLED _Pragma("clang loop unroll(disable)")
#elif defined(__GNUC__) && __GNUC__ >= 8
#define TK_ROLLED _Pragma("GCC unroll 1")
#else
#define TK_ROLLED
#endif

/* tk_sxtab16: adds bytes 0 and 2 of x, extended, to two int16. */
TK_INLINE uint32_t tk_sxtab16(uint32_t sums, uint32_t x)
{
#if TK_DSP
    uint32_t pair;
    __asm__("sxtab16 %0, %1, %2" : "=r"(pair) : "r"(sums), "r"(x));
    return pair;
#else
    return (uint16_t)(sums + (uint32_t)(int8_t)(x >> 0)) | ((sums >> 16) + (uint32_t)(int8_t)(x >> 16)) << 16;
#endif
}

/* tk_sxtab16_ror8: adds bytes 1 and 3 of x, extended, to two int16. */
TK_INLINE uint32_t tk_sxtab16_ror8(uint32_t sums, uint32_t x)
{
#if TK_DSP
    uint32_t pair;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(pair) : "r"(sums), "r"(x));
    return pair;
#else
    return (uint16_t)(sums + (uint32_t)(int8_t)(x >> 8)) | ((sums >> 16) + (uint32_t)(int8_t)(x >> 24)) << 16;
#endif
}

/* acc + a * b / 2^32, rounded down. */
TK_INLINE int32_t tk_smmla(int32_t a, int32_t b, int32_t acc)
{
#if TK_DSP
    int32_t sum;
    __asm__("smmla %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(acc));
    return sum;
#else
    return acc + (int32_t)(((int64_t)a * b) >> 32);
#endif
}

/* The lower half of a word to any address. */
TK_INLINE void tk_store16(void *p, int32_t value)
{
    const uint16_t half = (uint16_t)value;
    memcpy(p, &half, 2);
}

/* x / 2^22, rounded down, as the nearest int8. */
TK_INLINE int32_t tk_ssat8_asr22(int32_t x)
{
#if TK_DSP
    int32_t y;
    __asm__("ssat %0, #8, %1, asr #22" : "=r"(y) : "r"(x));
    return y;
#else
    return x >> 22 < -128 ? -128 : x >> 22 > 127 ? 127 : x >> 22;
#endif
}

/* Words from one place to another before it, both aligned to 4. */
TK_INLINE void tk_copy_words(int8_t *to, const int8_t *from, int32_t words)
{
#if TK_DSP
    for (; words >= 4; words -= 4) {
        __asm__ volatile("ldm %1!, {r2, r3, r12, lr}\n    stm %0!, {r2, r3, r12, lr}"
                         : "+r"(to), "+r"(from) : : "r2", "r3", "r12", "lr", "memory");
    }
#endif
    for (; words > 0; --words, to += 4, from += 4) {
        memcpy(to, from, 4);
    }
}

/* Bytes from one place to another; neither needs to be aligned. */
TK_KERNEL void tk_copy_bytes(int8_t *to, const int8_t *from, int32_t count)
{
#if TK_DSP
    uint32_t word;
    for (; count >= 4; count -= 4) {
        __asm__ volatile("ldr %2, [%1], #4\n    str %2, [%0], #4" : "+r"(to), "+r"(from), "=&r"(word) : : "memory");
    }
    for (; count > 0; --count) {
        __asm__ volatile("ldrb %2, [%1], #1\n    strb %2, [%0], #1" : "+r"(to), "+r"(from), "=&r"(word) : : "memory");
    }
#else
    memcpy(to, from, (size_t)count);
#endif
}

/* Four elements of a dense layer times four channels, whose weights lie as in `fast_dense`. */
TK_INLINE void tk_dense_step(uint32_t *sums, uint32_t x, const int32_t *weights)
{
    const uint32_t even = tk_sxtb16(x), odd = tk_sxtb16_ror8(x);
    for (int32_t n = 0; n < 4; n += 2) {
        const uint32_t first = (uint32_t)weights[n], second = (uint32_t)weights[n + 1];
        sums[n] = tk_smlad(tk_sxtb16(first), even, tk_smlad(tk_sxtb16(second), odd, sums[n]));
        sums[n + 1] = tk_smlad(first, even, tk_smlad(second, odd, sums[n + 1]));
    }
}

/* acc * multiplier / 2^(31 + shift), rounded twice as tk_scale does, saturated; offset is what rounds and the zero point, 2^shift times. */
TK_INLINE int32_t tk_dense_out(uint32_t acc, int32_t multiplier, int32_t shift, int32_t offset)
{
    const int32_t high = tk_smmulr((int32_t)(acc * 2), multiplier);
    return tk_ssat8((high + (high >> 31) + offset) >> shift);
}

/* Some output pixels: their inputs from `x` on, passes until `x_end`; outputs at `out`, `out + second` and so on. `skip`: bytes of code
   that the first pass leaves out. `pairs`: of channels; the initial sums, the weights, the parameters of each. */
typedef struct {
    int32_t second, third;
    int8_t *out;
    const int8_t *x, *x_end;
    int32_t skip;
    const int32_t *pairs;
    int32_t fourth;
} tk_block;

typedef void tk_routine(const tk_block *block);

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 8
#define TK_ASSEMBLY static __attribute__((naked, noinline, noipa, unused))
#else
#define TK_ASSEMBLY static __attribute__((naked, noinline, unused))
#endif

#if TK_DSP
TK_ASSEMBLY void tk_stream3x16(const tk_block *block __attribute__((unused)))
{
    __asm__ volatile(
        "push {r4-r11, lr}\n"
        "ldm r0, {r2-r8}\n"
        "adr r10, 1f; add r7, r7, r10; orr r7, r7, #1\n"
        "push {r2-r8}\n"
        "mov r1, r8\n"
        "0: ldrd r4, r7, [r1], #8; ldr r0, [sp, #12]\n"
        "ldrd r10, r11, [r1], #8; ldrd r2, r3, [r0, #16]; sxtb16 r12, r10; sxtb16 lr, r11; smlad r6, r12, r2, r4; smlad r9, r10, r2, r7; smlad r6, lr, r3, r6; smlad r9, r11, r3, r9; ldrd r2, r3, [r0, #8]; smlad r5, r12, r2, r4; smlad r8, r10, r2, r7; smlad r5, lr, r3, r5; smlad r8, r11, r3, r8; ldrd r2, r3, [r0], #24; smlad r4, r12, r2, r4; smlad r7, r10, r2, r7; smlad r4, lr, r3, r4; smlad r7, r11, r3, r7\n"
        "ldr pc, [sp, #20]\n"
        ".balign 4\n"
        "1:\n"
        ".rept 16\n"
        "ldrd r10, r11, [r1], #8; ldrd r2, r3, [r0], #8; sxtb16 r12, r10; sxtb16 lr, r11; smlad r4, r12, r2, r4; smlad r7, r10, r2, r7; smlad r4, lr, r3, r4; smlad r7, r11, r3, r7; ldrd r2, r3, [r0], #8; smlad r5, r12, r2, r5; smlad r8, r10, r2, r8; smlad r5, lr, r3, r5; smlad r8, r11, r3, r8; ldrd r2, r3, [r0], #8; smlad r6, r12, r2, r6; smlad r9, r10, r2, r9; smlad r6, lr, r3, r6; smlad r9, r11, r3, r9\n"
        ".endr\n"
        "ldr r12, [sp, #16]; cmp r0, r12; bne 1b\n"
        "sub r7, r7, r4; sub r8, r8, r5; sub r9, r9, r6\n"
        "asr r7, r7, #7; asr r8, r8, #7; asr r9, r9, #7\n"
        "ldm r1!, {r2, r3, r12}; asrs r10, r12, #16; ubfx r11, r12, #8, #5\n"
        "smmlar r4, r4, r2, r4; add r4, r4, r4, asr #31; asr r4, r4, r12; add r4, r4, r10; ssat r4, #8, r4, asr #1\n"
        "smmlar r5, r5, r2, r5; add r5, r5, r5, asr #31; asr r5, r5, r12; add r5, r5, r10; ssat r5, #8, r5, asr #1\n"
        "smmlar r6, r6, r2, r6; add r6, r6, r6, asr #31; asr r6, r6, r12; add r6, r6, r10; ssat r6, #8, r6, asr #1\n"
        "lsl r10, r10, r11\n"
        "add lr, r10, r7, asr #31; smmlar r7, r7, r3, lr; asr r7, r7, r11; ssat r7, #8, r7, asr #1\n"
        "add lr, r10, r8, asr #31; smmlar r8, r8, r3, lr; asr r8, r8, r11; ssat r8, #8, r8, asr #1\n"
        "add lr, r10, r9, asr #31; smmlar r9, r9, r3, lr; asr r9, r9, r11; ssat r9, #8, r9, asr #1\n"
        "ldm sp, {r2, r3, r11}\n"
        "strb r6, [r11, r3]; strb r5, [r11, r2]; strb r4, [r11], #1; strb r9, [r11, r3]; strb r8, [r11, r2]; strb r7, [r11], #1\n"
        "str r11, [sp, #8]\n"
        "bcc 0b\n"
        "add sp, sp, #28\n"
        "pop {r4-r11, pc}\n"
        : : : "r0", "r1", "r2", "r3", "r12", "cc", "memory");
}
#else
static void tk_stream3x16(const tk_block *block)
{
    enum { PIXELS = 3 };
    const int32_t *w = block->pairs;
    const int32_t place[3] = {0, block->second, block->third};
    for (int8_t *out = block->out;; out += 2) {
        uint32_t a[PIXELS], s[PIXELS];
        for (int32_t p = 0; p < PIXELS; ++p) {
            a[p] = (uint32_t)w[0];
            s[p] = (uint32_t)w[1];
        }
        w += 2;
        for (const int8_t *x = block->x; x != block->x_end; w += 2) {
            const uint32_t w0 = tk_load32(w), w1 = tk_load32(w + 1);
            for (int32_t p = 0; p < PIXELS; ++p, x += 8) {
                const uint32_t x0 = tk_load32(x), x1 = tk_load32(x + 4);
                a[p] = tk_smlad(tk_sxtb16(w1), x1, tk_smlad(tk_sxtb16(w0), x0, a[p]));
                s[p] = tk_smlad(w1, x1, tk_smlad(w0, x0, s[p]));
            }
        }
        const int32_t word = w[2], shift = word & 31, shift_b = word >> 8 & 31, rounding = word >> 16;
        for (int32_t p = PIXELS - 1; p >= 0; --p) {
            const int32_t high = tk_smmlar((int32_t)a[p], w[0], (int32_t)a[p]);
            out[place[p]] = (int8_t)tk_clamp((((high + (high >> 31)) >> shift) + rounding) >> 1, -128, 127);
        }
        for (int32_t p = PIXELS - 1; p >= 0; --p) {
            /* twice b's sum; the sign of what is rounded is that of the sum wherever it decides */
            const int32_t twice = (int32_t)(s[p] - a[p]) >> 7;
            const int32_t b = tk_smmlar(twice, w[1], (int32_t)((uint32_t)rounding << shift_b) + (twice >> 31)) >> shift_b;
            out[place[p] + 1] = (int8_t)tk_clamp(b >> 1, -128, 127);
        }
        w += 3;
        if (word & 0x8000) {
            return;
        }
    }
}
#endif

/* Bytes as quads of int16, each in the order 0, 2, 1, 3, a pixel's quads 24 bytes apart. Gives the place of the next. */
TK_INLINE int8_t *tk_widen3(int8_t *quad, const int8_t *source, int32_t quads)
{
#if TK_DSP
    uint32_t a, b;
    for (; quads >= 4; quads -= 4) {
        __asm__ volatile(
            "ldr %2, [%1], #4\n sxtb16 %3, %2\n sxtb16 %2, %2, ror #8\n strd %3, %2, [%0], #24\n"
            "ldr %2, [%1], #4\n sxtb16 %3, %2\n sxtb16 %2, %2, ror #8\n strd %3, %2, [%0], #24\n"
            "ldr %2, [%1], #4\n sxtb16 %3, %2\n sxtb16 %2, %2, ror #8\n strd %3, %2, [%0], #24\n"
            "ldr %2, [%1], #4\n sxtb16 %3, %2\n sxtb16 %2, %2, ror #8\n strd %3, %2, [%0], #24\n"
            : "+r"(quad), "+r"(source), "=&r"(a), "=&r"(b) : : "memory");
    }
    for (; quads > 0; --quads) {
        __asm__ volatile(
            "ldr %2, [%1], #4\n sxtb16 %3, %2\n sxtb16 %2, %2, ror #8\n strd %3, %2, [%0], #24\n"
            : "+r"(quad), "+r"(source), "=&r"(a), "=&r"(b) : : "memory");
    }
#else
    for (; quads > 0; --quads, source += 4, quad += 24) {
        const uint32_t bytes = tk_load32(source);
        const uint32_t words[2] = {tk_sxtb16(bytes), tk_sxtb16_ror8(bytes)};
        memcpy(quad, words, 8);
    }
#endif
    return quad;
}

/* The same as a call, where its code counts for more than its time. */
TK_KERNEL int8_t *tk_widen3_call(int8_t *quad, const int8_t *source, int32_t quads)
{
    return tk_widen3(quad, source, quads);
}

#if TK_DSP
TK_ASSEMBLY void tk_line3x1(const tk_block *block __attribute__((unused)))
{
    __asm__ volatile(
        "push {r4-r11, lr}\n"
        "ldm r0, {r2-r8}\n"
        "push {r2-r8}\n"
        "mov r1, r8\n"
        "0: ldrd r4, r7, [r1], #8; ldr r0, [sp, #12]\n"
        "ldrd r10, r11, [r1], #8; ldrd r2, r3, [r0, #16]; sxtb16 r12, r10; sxtb16 lr, r11; smlad r6, r12, r2, r4; smlad r9, r10, r2, r7; smlad r6, lr, r3, r6; smlad r9, r11, r3, r9; ldrd r2, r3, [r0, #8]; smlad r5, r12, r2, r4; smlad r8, r10, r2, r7; smlad r5, lr, r3, r5; smlad r8, r11, r3, r8; ldrd r2, r3, [r0], #24; smlad r4, r12, r2, r4; smlad r7, r10, r2, r7; smlad r4, lr, r3, r4; smlad r7, r11, r3, r7\n"
        ".rept 0\n"
        "ldrd r10, r11, [r1], #8; ldrd r2, r3, [r0], #8; sxtb16 r12, r10; sxtb16 lr, r11; smlad r4, r12, r2, r4; smlad r7, r10, r2, r7; smlad r4, lr, r3, r4; smlad r7, r11, r3, r7; ldrd r2, r3, [r0], #8; smlad r5, r12, r2, r5; smlad r8, r10, r2, r8; smlad r5, lr, r3, r5; smlad r8, r11, r3, r8; ldrd r2, r3, [r0], #8; smlad r6, r12, r2, r6; smlad r9, r10, r2, r9; smlad r6, lr, r3, r6; smlad r9, r11, r3, r9\n"
        ".endr\n"
        "sub r7, r7, r4; sub r8, r8, r5; sub r9, r9, r6\n"
        "asr r7, r7, #7; asr r8, r8, #7; asr r9, r9, #7\n"
        "ldm r1!, {r2, r3, r12}; asrs r10, r12, #16; ubfx r11, r12, #8, #5\n"
        "smmlar r4, r4, r2, r4; add r4, r4, r4, asr #31; asr r4, r4, r12; add r4, r4, r10; ssat r4, #8, r4, asr #1\n"
        "smmlar r5, r5, r2, r5; add r5, r5, r5, asr #31; asr r5, r5, r12; add r5, r5, r10; ssat r5, #8, r5, asr #1\n"
        "smmlar r6, r6, r2, r6; add r6, r6, r6, asr #31; asr r6, r6, r12; add r6, r6, r10; ssat r6, #8, r6, asr #1\n"
        "lsl r10, r10, r11\n"
        "add lr, r10, r7, asr #31; smmlar r7, r7, r3, lr; asr r7, r7, r11; ssat r7, #8, r7, asr #1\n"
        "add lr, r10, r8, asr #31; smmlar r8, r8, r3, lr; asr r8, r8, r11; ssat r8, #8, r8, asr #1\n"
        "add lr, r10, r9, asr #31; smmlar r9, r9, r3, lr; asr r9, r9, r11; ssat r9, #8, r9, asr #1\n"
        "ldm sp, {r2, r3, r11}\n"
        "strb r6, [r11, r3]; strb r5, [r11, r2]; strb r4, [r11], #1; strb r9, [r11, r3]; strb r8, [r11, r2]; strb r7, [r11], #1\n"
        "str r11, [sp, #8]\n"
        "bcc 0b\n"
        "add sp, sp, #28\n"
        "pop {r4-r11, pc}\n"
        : : : "r0", "r1", "r2", "r3", "r12", "cc", "memory");
}
#else
static void tk_line3x1(const tk_block *block)
{
    enum { PIXELS = 3 };
    const int32_t *w = block->pairs;
    const int32_t place[3] = {0, block->second, block->third};
    for (int8_t *out = block->out;; out += 2) {
        uint32_t a[PIXELS], s[PIXELS];
        for (int32_t p = 0; p < PIXELS; ++p) {
            a[p] = (uint32_t)w[0];
            s[p] = (uint32_t)w[1];
        }
        w += 2;
        for (const int8_t *x = block->x; x != block->x_end; w += 2) {
            const uint32_t w0 = tk_load32(w), w1 = tk_load32(w + 1);
            for (int32_t p = 0; p < PIXELS; ++p, x += 8) {
                const uint32_t x0 = tk_load32(x), x1 = tk_load32(x + 4);
                a[p] = tk_smlad(tk_sxtb16(w1), x1, tk_smlad(tk_sxtb16(w0), x0, a[p]));
                s[p] = tk_smlad(w1, x1, tk_smlad(w0, x0, s[p]));
            }
        }
        const int32_t word = w[2], shift = word & 31, shift_b = word >> 8 & 31, rounding = word >> 16;
        for (int32_t p = PIXELS - 1; p >= 0; --p) {
            const int32_t high = tk_smmlar((int32_t)a[p], w[0], (int32_t)a[p]);
            out[place[p]] = (int8_t)tk_clamp((((high + (high >> 31)) >> shift) + rounding) >> 1, -128, 127);
        }
        for (int32_t p = PIXELS - 1; p >= 0; --p) {
            /* twice b's sum; the sign of what is rounded is that of the sum wherever it decides */
            const int32_t twice = (int32_t)(s[p] - a[p]) >> 7;
            const int32_t b = tk_smmlar(twice, w[1], (int32_t)((uint32_t)rounding << shift_b) + (twice >> 31)) >> shift_b;
            out[place[p] + 1] = (int8_t)tk_clamp(b >> 1, -128, 127);
        }
        w += 3;
        if (word & 0x8000) {
            return;
        }
    }
}
#endif

#if TK_DSP
TK_ASSEMBLY void tk_line3x2_asr12(const tk_block *block __attribute__((unused)))
{
    __asm__ volatile(
        "push {r4-r11, lr}\n"
        "ldm r0, {r2-r8}\n"
        "push {r2-r8}\n"
        "mov r1, r8\n"
        "0: ldrd r4, r7, [r1], #8; ldr r0, [sp, #12]\n"
        "ldrd r10, r11, [r1], #8; ldrd r2, r3, [r0, #16]; sxtb16 r12, r10; sxtb16 lr, r11; smlad r6, r12, r2, r4; smlad r9, r10, r2, r7; smlad r6, lr, r3, r6; smlad r9, r11, r3, r9; ldrd r2, r3, [r0, #8]; smlad r5, r12, r2, r4; smlad r8, r10, r2, r7; smlad r5, lr, r3, r5; smlad r8, r11, r3, r8; ldrd r2, r3, [r0], #24; smlad r4, r12, r2, r4; smlad r7, r10, r2, r7; smlad r4, lr, r3, r4; smlad r7, r11, r3, r7\n"
        ".rept 1\n"
        "ldrd r10, r11, [r1], #8; ldrd r2, r3, [r0], #8; sxtb16 r12, r10; sxtb16 lr, r11; smlad r4, r12, r2, r4; smlad r7, r10, r2, r7; smlad r4, lr, r3, r4; smlad r7, r11, r3, r7; ldrd r2, r3, [r0], #8; smlad r5, r12, r2, r5; smlad r8, r10, r2, r8; smlad r5, lr, r3, r5; smlad r8, r11, r3, r8; ldrd r2, r3, [r0], #8; smlad r6, r12, r2, r6; smlad r9, r10, r2, r9; smlad r6, lr, r3, r6; smlad r9, r11, r3, r9\n"
        ".endr\n"
        "sub r7, r7, r4; sub r8, r8, r5; sub r9, r9, r6\n"
        "lsl r4, r4, #8; lsl r5, r5, #8; lsl r6, r6, #8\n"
        "ldm r1!, {r2, r3, r11, r12}; asrs lr, r12, #1\n"
        "smmla r4, r4, r2, r11; ssat r4, #8, r4, asr #12\n"
        "smmla r5, r5, r2, r11; ssat r5, #8, r5, asr #12\n"
        "smmla r6, r6, r2, r11; ssat r6, #8, r6, asr #12\n"
        "smmla r7, r7, r3, lr; ssat r7, #8, r7, asr #12\n"
        "smmla r8, r8, r3, lr; ssat r8, #8, r8, asr #12\n"
        "smmla r9, r9, r3, lr; ssat r9, #8, r9, asr #12\n"
        "ldm sp, {r2, r3, r11}\n"
        "strb r6, [r11, r3]; strb r5, [r11, r2]; strb r4, [r11], #1; strb r9, [r11, r3]; strb r8, [r11, r2]; strb r7, [r11], #1\n"
        "str r11, [sp, #8]\n"
        "bcc 0b\n"
        "add sp, sp, #28\n"
        "pop {r4-r11, pc}\n"
        : : : "r0", "r1", "r2", "r3", "r12", "cc", "memory");
}
#else
static void tk_line3x2_asr12(const tk_block *block)
{
    enum { PIXELS = 3 };
    const int32_t *w = block->pairs;
    const int32_t place[3] = {0, block->second, block->third};
    for (int8_t *out = block->out;; out += 2) {
        uint32_t a[PIXELS], s[PIXELS];
        for (int32_t p = 0; p < PIXELS; ++p) {
            a[p] = (uint32_t)w[0];
            s[p] = (uint32_t)w[1];
        }
        w += 2;
        for (const int8_t *x = block->x; x != block->x_end; w += 2) {
            const uint32_t w0 = tk_load32(w), w1 = tk_load32(w + 1);
            for (int32_t p = 0; p < PIXELS; ++p, x += 8) {
                const uint32_t x0 = tk_load32(x), x1 = tk_load32(x + 4);
                a[p] = tk_smlad(tk_sxtb16(w1), x1, tk_smlad(tk_sxtb16(w0), x0, a[p]));
                s[p] = tk_smlad(w1, x1, tk_smlad(w0, x0, s[p]));
            }
        }
        uint32_t b[PIXELS];
        for (int32_t p = 0; p < PIXELS; ++p) {
            b[p] = s[p] - a[p];
            a[p] <<= 8;
        }
        const int32_t offset_a = w[2], offset_b = w[3] >> 1, last = w[3] & 1;
        for (int32_t p = PIXELS - 1; p >= 0; --p) {
            out[place[p]] = (int8_t)tk_clamp(tk_smmla((int32_t)a[p], w[0], offset_a) >> 12, -128, 127);
            out[place[p] + 1] = (int8_t)tk_clamp(tk_smmla((int32_t)b[p], w[1], offset_b) >> 12, -128, 127);
        }
        w += 4;
        if (last) {
            return;
        }
    }
}
#endif

static const int32_t tk_w_0_pairs[38] = {
    -107614, -11564382, -831348319, 226145345, 2061390367, -643433634, -1132587279, 382089257, 1574522203, 2001297827, 788743979, -965675275, 2030863185, 1702597974, -847549182, 40895, -975840604, 1898869480, 100613, -44753, 5744943, -1529942622, 1527626932, -1283773358,
    265982715, 465337879, -2011711688, -245453747, -663243934, 1731196999, 533124599, -696700541, 1684356501, -2083690899, 14752, -497228336, 1644141811, 100361};

static const int32_t tk_w_1_pairs[38] = {
    -2927, -749679, -1567621413, -635362239, -1188915362, -810049322, 1761993856, 278174463, -1780638534, 1757123868, -442684023, 1750627875, 1394861838, -1867959616, 986933160, 3713, -1184106994, 1259418298, -8549622, -2917, 974491, 765677055, -69568476, -155606121,
    1305494433, 476698597, 923880603, 1402345117, 1114197141, 1239860270, -647457930, -1554792729, -2003730381, -482636696, 10511, -1776130700, 1847189083, -8550901};

static const int32_t tk_w_2_pairs[21] = {
    -23, -977431, 1171377871, 38510, -1825427982, 1818278172, -16710904, -2528, 722720, -2121890644, 22015, -1838332904, 1782084955, -16677626, 2833, -892399, -1618807163, 60758, -730797386, 1521614541, -16676603};

static const int8_t tk_w_3_weights[45] = {
    -105, 112, 90, -6, 112, 70, -118, 122, 61, 50, 58, 114, -62, 0, -48, -101, -66, -54, -124, 39, -73, -25, -41, 127,
    -111, -85, 11, -36, -2, -66, 122, 111, 63, 8, 88, -108, -53, -55, -48, -34, -17, 96, -25, -51, 41};

static const int32_t tk_q_3_records[15] = {
    90458, 1545754588, 32, -35656, 2023356557, 512, -73548, 1092967474, 512, 51078, 1616073180, 64, -36918, 1589030740, 16};

static const int8_t tk_q_3_shifts[5] = {
    6, 10, 10, 7, 5};

static const int32_t tk_w_4_pairs[20] = {
    3104, 592416, -81778522, 1219358990, 11940, 0, 768307090, 768307090, 522208, 1044417, 2302, 142590, 1106994473, 172599793, 35119, 0, 768307090, 768307090, 522208, 1044417};

static const int32_t tk_w_7_weights[12] = {
    130756939, 735776031, 630770461, 1712071379, -388021395, -1060502468, -1728302785, -878231417, -1356739423, -1746240948, 1582161427, -683137716};

static const int32_t tk_q_7_bias[4] = {
    -11144, 2771, 3317, -16560};

static const int8_t tk_c_pad_0[9] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0};

static const int8_t tk_c_pad_127[9] = {
    127, 127, 127, 127, 127, 127, 127, 127, 127};

TK_KERNEL void tk_conv2d_3x3_rests_p3_c3(const int8_t *in, int8_t *out, int8_t *buffer, const int32_t *pairs, const int8_t *padding,
                                         int32_t step_y, int32_t pixels)
{
    enum { in_h = 7, in_w = 5, depth = 3, out_w = 5, first_y = -1, first_x = -1, step_x = 1, dilation_h = 1, dilation_w = 1,
           run = 9, rests = 168, edges = 172, channels = 3, quads = 7, skip = 720, first_block = 0, block_step = 3, odd = 19 };
    tk_routine *routine = tk_stream3x16;
    enum { KERNEL_H = 3, KERNEL_W = 3, RUNS = 3 };
    const int32_t span_h = (KERNEL_H - 1) * dilation_h + 1, span_w = (KERNEL_W - 1) * dilation_w + 1;
    enum { PIXELS = 3 };
    tk_block block = {0, 0, 0, buffer, buffer + 8 * PIXELS * quads, skip, pairs, 0};
    for (int32_t first = first_block; (uint32_t)first < (uint32_t)pixels; first += block_step) {
        const int32_t count = pixels - first < PIXELS ? pixels - first : PIXELS;
        for (int32_t p = 0; p < count; ++p) {
            int8_t *quad = buffer + 8 * p;
            const int32_t row = (first + p) / out_w * step_y + first_y, left = (first + p) % out_w * step_x + first_x;
            int8_t *rest = buffer + rests;
            if (row >= 0 && row + span_h <= in_h && left >= 0 && left + span_w <= in_w) {
                const int8_t *const window = in + (row * in_w + left) * depth;
                for (int32_t i = 0; i < RUNS; ++i) {
                    const int8_t *const source = window + i * dilation_h * in_w * depth;
                    quad = tk_widen3(quad, source, run / 4);
                    for (int32_t k = run / 4 * 4; k < run; ++k) {
                        *rest++ = source[k];
                    }
                }
            } else {
                TK_ROLLED
                for (int32_t i = 0; i < KERNEL_H; ++i) {
                    const int32_t r = row + i * dilation_h, line = in_w * depth, at = left * depth;
                    const int32_t begin = at < 0 ? -at : 0, end = line - at < run ? line - at : run;
                    const int8_t *source = padding;
                    if ((uint32_t)r < (uint32_t)in_h && begin < end) {
                        source = in + (r * line + at + begin);
                        if (end - begin < run) {
                            int8_t *const edge = buffer + edges;
                            tk_copy_bytes(edge, padding, run);
                            tk_copy_bytes(edge + begin, source, end - begin);
                            source = edge;
                        }
                    }
                    quad = tk_widen3_call(quad, source, run / 4);
                    for (int32_t k = run / 4 * 4; k < run; ++k) {
                        *rest++ = source[k];
                    }
                }
            }
            if (run % 4) {
                tk_widen3(quad, buffer + rests, (run % 4 * RUNS + 3) / 4);
            }
        }
        block.second = count > 1 ? channels : 0;
        block.third = count > 2 ? 2 * channels : block.second;
        block.out = out + first * channels;
        block.pairs = pairs;
        routine(&block);
        if (odd) { /* the last channel with the one before it, which is computed once more */
            block.pairs = pairs + odd;
            block.out += channels - 2;
            routine(&block);
        }
    }
}

TK_KERNEL void tk_pointwise_p3_c3(const int8_t *in, int8_t *out, int8_t *buffer)
{
    enum { depth = 3, pixels = 35, channels = 5, quads = 1, skip = 0, first_block = 33, block_step = -3, odd = 14 };
    tk_routine *routine = tk_line3x1;
    const int32_t *pairs = tk_w_2_pairs;
    enum { PIXELS = 3 };
    tk_block block = {0, 0, 0, buffer, buffer + 8 * PIXELS * quads, skip, pairs, 0};
    for (int32_t first = first_block; (uint32_t)first < (uint32_t)pixels; first += block_step) {
        const int32_t count = pixels - first < PIXELS ? pixels - first : PIXELS;
        for (int32_t p = 0; p < count; ++p) {
            int8_t *quad = buffer + 8 * p;
            const int8_t *const source = in + (first + p) * depth;
            quad = tk_widen3(quad, source, depth / 4);
            if (depth % 4) {
                uint32_t rest = 0;
                for (int32_t k = 0; k < depth % 4; ++k) {
                    rest |= (uint32_t)(uint8_t)source[depth / 4 * 4 + k] << 8 * k;
                }
                tk_widen3(quad, (const int8_t *)&rest, 1);
            }
        }
        block.second = count > 1 ? channels : 0;
        block.third = count > 2 ? 2 * channels : block.second;
        block.out = out + first * channels;
        block.pairs = pairs;
        routine(&block);
        if (odd) { /* the last channel with the one before it, which is computed once more */
            block.pairs = pairs + odd;
            block.out += channels - 2;
            routine(&block);
        }
    }
}

TK_KERNEL void tk_depthwise_3x3_by_1(const int8_t *in, int8_t *out, int8_t *scratch)
{
    enum { in_h = 7, in_w = 5, channels = 5, out_h = 4, out_w = 5, WIDTH = 5, multiplier = 1, PITCH = 16, STRIDE = 2, REACH = 3,
           pad_top = 1, pad_left = 1, zero = -128, taken = 5, begin = 0, band = 4, rows = 9, moving = 0 };
    const int8_t *weights = tk_w_3_weights;
    const int32_t *records = tk_q_3_records;
    const int8_t *shifts = tk_q_3_shifts;
    enum { KERNEL_H = 3, KERNEL_W = 3, WORDS = 4, FOURS = 1, STRIDE_W = 1, DILATION_W = 1, DILATION_H = 1, TOGETHER = 1 };
    const int32_t size = rows * PITCH, line = WIDTH * out_w;
    const uint32_t zeros = tk_pkhbt((uint32_t)zero, (uint32_t)zero);
    TK_ROLLED
    for (int32_t i = 0; i < TOGETHER * size; i += 4) {
        tk_store32(scratch + i, zeros);
    }
    for (int32_t done = 0; done < channels; done += TOGETHER) {
        /* the last channels are gathered with some before them, whose bytes may hold results already */
        const int32_t first = done + TOGETHER < channels ? done : channels - TOGETHER;
        int32_t kept = 0, row = begin * STRIDE - pad_top;
        for (int32_t y = begin; y < out_h; y += band) {
            const int32_t count = out_h - y < band ? out_h - y : band, needed = (count - 1) * STRIDE + REACH;
            for (int32_t n = 0; n < (kept ? TOGETHER * size : 0); n += size) {
                tk_copy_words(scratch + n, scratch + n + band * STRIDE * PITCH, kept * PITCH / 4);
            }
            for (int8_t *to = scratch + kept * PITCH, *const end = scratch + needed * PITCH; to < end; to += PITCH, ++row) {
                if ((uint32_t)row >= (uint32_t)in_h) {
                    for (int32_t n = 0; n < (moving ? TOGETHER * size : 0); n += size) {
                        for (int32_t i = 0; i < PITCH; i += 4) {
                            tk_store32(to + n + i, zeros);
                        }
                    }
                    continue;
                }
                int8_t *at = to + 2 * pad_left;
                int32_t x = taken;
                const int8_t *from = in + row * in_w * channels + first;
                for (; x > 0; --x, from += channels, at += 2) {
                    tk_store16(at, from[0]);
                }
            }
            kept = REACH - STRIDE;
            if (kept < 0) {
                row -= kept, kept = 0;
            }
            for (int32_t n = done - first; n < TOGETHER; ++n) {
                const int8_t *plane = scratch + n * size;
                for (int32_t m = 0; m < multiplier; ++m) {
                    const int32_t c = (first + n) * multiplier + m;
                    const int32_t start = records[3 * c], factor = records[3 * c + 1], offset = records[3 * c + 2];
                    const int32_t scaled = 2, right = shifts[c];
                    const int8_t *source = weights + c * KERNEL_H * KERNEL_W;
                    int8_t *const words = scratch + TOGETHER * size;
                    TK_ROLLED
                    for (int32_t i = 0, t = 0; i < KERNEL_H; ++i, source += KERNEL_W) {
                        TK_ROLLED
                        for (int32_t k = 0; t < 4 * WORDS * (i + 1); t += 4, k += !FOURS ? 2 : k & 1 ? 3 : -1) {
                            const int32_t low = (uint32_t)k < KERNEL_W ? source[k] * scaled : 0, high = k + 1 < KERNEL_W ? source[k + 1] * scaled : 0;
                            tk_store32(words + t, tk_pkhbt((uint32_t)low, (uint32_t)high));
                        }
                    }
                    int8_t *result = out + y * line + c;
                    for (int32_t i = 0; i < count; ++i) {
                        const int8_t *p = plane + i * STRIDE * PITCH;
                        int32_t left = out_w;
                        for (; left >= 4; left -= 4, p += 8, result += 4 * WIDTH) {
#if TK_DSP
                            uint32_t sums[4] = {KERNEL_H, (uint32_t)start, (uint32_t)(DILATION_H * PITCH), 0};
                            {
                                register const int8_t *r0 __asm__("r0") = p;
                                register const int8_t *r1 __asm__("r1") = words;
                                register uint32_t *r3 __asm__("r3") = sums;
                                __asm__ volatile(
                                    "push {r3-r11}\n"
                                    "ldm r3, {r2, r4, lr}\n"
                                    "mov r5, r4\n"
                                    "mov r6, r4\n"
                                    "mov r7, r4\n"
                                    "1:\n"
                                    "ldrd r8, r9, [r0, #0]\n"
                                    "ldrd r10, r11, [r1], #8\n"
                                    "smlad r4, r10, r8, r4\n"
                                    "smlad r5, r11, r8, r5\n"
                                    "ldrd r12, r3, [r1], #8\n"
                                    "smlad r4, r12, r9, r4\n"
                                    "smlad r6, r10, r9, r6\n"
                                    "smlad r5, r3, r9, r5\n"
                                    "smlad r7, r11, r9, r7\n"
                                    "ldr r8, [r0, #8]\n"
                                    "smlad r6, r12, r8, r6\n"
                                    "smlad r7, r3, r8, r7\n"
                                    "add r0, r0, lr\n"
                                    "subs r2, r2, #1\n"
                                    "bne 1b\n"
                                    "ldr r3, [sp]\n"
                                    "stm r3, {r4-r7}\n"
                                    "pop {r3-r11}\n"
                                    : "+r"(r0), "+r"(r1), "+r"(r3) : : "r2", "r12", "lr", "cc", "memory");
                            }
                            const uint32_t a0 = sums[0], a1 = sums[1], a2 = sums[2], a3 = sums[3];
#else
                            uint32_t a0 = (uint32_t)start, a1 = a0, a2 = a0, a3 = a0;
                            const int8_t *q = p, *w = words;
                            for (int32_t r = 0; r < KERNEL_H; ++r, q += DILATION_H * PITCH, w += 4 * WORDS) {
                                const uint32_t x0 = tk_load32(q + 0);
                                a0 = tk_smlad(tk_load32(w + 0), x0, a0);
                                a1 = tk_smlad(tk_load32(w + 4), x0, a1);
                                const uint32_t x1 = tk_load32(q + 4);
                                a0 = tk_smlad(tk_load32(w + 8), x1, a0);
                                a2 = tk_smlad(tk_load32(w + 0), x1, a2);
                                a1 = tk_smlad(tk_load32(w + 12), x1, a1);
                                a3 = tk_smlad(tk_load32(w + 4), x1, a3);
                                const uint32_t x2 = tk_load32(q + 8);
                                a2 = tk_smlad(tk_load32(w + 8), x2, a2);
                                a3 = tk_smlad(tk_load32(w + 12), x2, a3);
                            }
#endif
                            const int32_t high0 = tk_smmulr((int32_t)a0, factor), value0 = tk_ssat8((high0 + (high0 >> 31) + offset) >> right);
                            result[0] = (int8_t)value0;
                            const int32_t high1 = tk_smmulr((int32_t)a1, factor), value1 = tk_ssat8((high1 + (high1 >> 31) + offset) >> right);
                            result[WIDTH] = (int8_t)value1;
                            const int32_t high2 = tk_smmulr((int32_t)a2, factor), value2 = tk_ssat8((high2 + (high2 >> 31) + offset) >> right);
                            result[2 * WIDTH] = (int8_t)value2;
                            const int32_t high3 = tk_smmulr((int32_t)a3, factor), value3 = tk_ssat8((high3 + (high3 >> 31) + offset) >> right);
                            result[3 * WIDTH] = (int8_t)value3;
                        }
                        for (; left > 0; --left, p += 2 * STRIDE_W, result += WIDTH) {
                            uint32_t a0 = (uint32_t)start;
                            const int8_t *q = p, *w = words;
                            for (int32_t r = 0; r < KERNEL_H; ++r, q += DILATION_H * PITCH, w += 4 * WORDS) {
                                a0 = tk_smlad(tk_load32(w + 0), tk_load32(q + 0), a0);
                                a0 = tk_smlad(tk_load32(w + 8), tk_load32(q + 4), a0);
#if defined(__GNUC__)
                                __asm__ volatile("" : : : "memory"); /* or all rows' words are loaded first, more than there are registers */
#endif
                            }
                            const int32_t high0 = tk_smmulr((int32_t)a0, factor), value0 = tk_ssat8((high0 + (high0 >> 31) + offset) >> right);
                            result[0] = (int8_t)value0;
                        }
                    }
                }
            }
        }
    }
}

TK_KERNEL void tk_pointwise_p3_c5(const int8_t *in, int8_t *out, int8_t *buffer)
{
    enum { depth = 5, pixels = 20, channels = 3, quads = 2, skip = 0, first_block = 0, block_step = 3, odd = 10 };
    tk_routine *routine = tk_line3x2_asr12;
    const int32_t *pairs = tk_w_4_pairs;
    enum { PIXELS = 3 };
    tk_block block = {0, 0, 0, buffer, buffer + 8 * PIXELS * quads, skip, pairs, 0};
    for (int32_t first = first_block; (uint32_t)first < (uint32_t)pixels; first += block_step) {
        const int32_t count = pixels - first < PIXELS ? pixels - first : PIXELS;
        for (int32_t p = 0; p < count; ++p) {
            int8_t *quad = buffer + 8 * p;
            const int8_t *const source = in + (first + p) * depth;
            quad = tk_widen3(quad, source, depth / 4);
            if (depth % 4) {
                uint32_t rest = 0;
                for (int32_t k = 0; k < depth % 4; ++k) {
                    rest |= (uint32_t)(uint8_t)source[depth / 4 * 4 + k] << 8 * k;
                }
                tk_widen3(quad, (const int8_t *)&rest, 1);
            }
        }
        block.second = count > 1 ? channels : 0;
        block.third = count > 2 ? 2 * channels : block.second;
        block.out = out + first * channels;
        block.pairs = pairs;
        routine(&block);
        if (odd) { /* the last channel with the one before it, which is computed once more */
            block.pairs = pairs + odd;
            block.out += channels - 2;
            routine(&block);
        }
    }
}

TK_KERNEL void tk_add_asr22(const int8_t *a, const int8_t *b, int8_t *out)
{
    enum { count = 60, a_slope = 2796203, b_slope = 2037805, offset = 460519484 };
    int32_t n = count;
    for (; n >= 4; n -= 4, a += 4, b += 4, out += 4) {
        const int32_t a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
        const int32_t b0 = b[0], b1 = b[1], b2 = b[2], b3 = b[3];
        out[0] = (int8_t)tk_ssat8_asr22(a0 * a_slope + (b0 * b_slope + offset));
        out[1] = (int8_t)tk_ssat8_asr22(a1 * a_slope + (b1 * b_slope + offset));
        out[2] = (int8_t)tk_ssat8_asr22(a2 * a_slope + (b2 * b_slope + offset));
        out[3] = (int8_t)tk_ssat8_asr22(a3 * a_slope + (b3 * b_slope + offset));
    }
    for (; n > 0; --n, a += 1, b += 1, out += 1) {
        out[0] = (int8_t)tk_ssat8_asr22(a[0] * a_slope + (b[0] * b_slope + offset));
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
#if TK_DSP
            for (; c + 4 <= depth; c += 4) {
                uint32_t even = 0, odd = 0;
                for (int32_t r = top; r < bottom; ++r) {
                    const int8_t *p = in + (r * in_w + left) * depth + c;
                    for (int32_t s = left; s < right; ++s, p += depth) {
                        const uint32_t word = tk_load32(p);
                        even = tk_sxtab16(even, word);
                        odd = tk_sxtab16_ror8(odd, word);
                    }
                }
                const int32_t a0 = (int16_t)even, a1 = (int16_t)odd, a2 = (int16_t)(even >> 16), a3 = (int16_t)(odd >> 16);
                out[k + c] = (int8_t)tk_clamp((a0 > 0 ? a0 + half : a0 - half) / count, act_min, act_max);
                out[k + c + 1] = (int8_t)tk_clamp((a1 > 0 ? a1 + half : a1 - half) / count, act_min, act_max);
                out[k + c + 2] = (int8_t)tk_clamp((a2 > 0 ? a2 + half : a2 - half) / count, act_min, act_max);
                out[k + c + 3] = (int8_t)tk_clamp((a3 > 0 ? a3 + half : a3 - half) / count, act_min, act_max);
            }
#else
            (void)tk_load32, (void)tk_sxtab16, (void)tk_sxtab16_ror8; /* compilers complain about helpers that only the other branch calls */
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
#endif
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

TK_KERNEL void tk_dense_pt(const int8_t *in, int8_t *out)
{
    enum { multiplier = 1983760390, shift = 7, offset = -16320, depth = 12, channels = 4 };
    const int32_t *weights = tk_w_7_weights;
    const int32_t *bias = tk_q_7_bias;
    for (int32_t c = 0; c < channels; c += 4, weights += (depth + 3) / 4 * 4) {
        const int32_t *w = weights;
        const int8_t *x = in;
        uint32_t sums[4] = {depth / 4 % 4};
#if TK_DSP
        {
            (void)tk_load32; /* compilers complain about helpers that only the other branch calls */
            register const int8_t *r0 __asm__("r0") = x;
            register const int32_t *r1 __asm__("r1") = w;
            register int32_t r2 __asm__("r2") = depth / (4 * 4);
            register uint32_t *r3 __asm__("r3") = sums;
            __asm__ volatile(
                "push {r3-r11}\n"
                "mov r10, #0\n"
                "mov r11, #0\n"
                "mov r12, #0\n"
                "mov lr, #0\n"
                "cmp r2, #0\n"
                "beq 2f\n"
                "1:\n"
                "ldr r4, [r0], #4\n"
                "ldm r1!, {r6-r9}\n"
                "sxtb16 r5, r4, ror #8\n"
                "sxtb16 r4, r4\n"
                "smlad r11, r6, r4, r11\n"
                "sxtb16 r6, r6\n"
                "smlad r10, r6, r4, r10\n"
                "smlad r11, r7, r5, r11\n"
                "sxtb16 r7, r7\n"
                "smlad r10, r7, r5, r10\n"
                "smlad lr, r8, r4, lr\n"
                "sxtb16 r8, r8\n"
                "smlad r12, r8, r4, r12\n"
                "smlad lr, r9, r5, lr\n"
                "sxtb16 r9, r9\n"
                "smlad r12, r9, r5, r12\n"
                "ldr r4, [r0], #4\n"
                "ldm r1!, {r6-r9}\n"
                "sxtb16 r5, r4, ror #8\n"
                "sxtb16 r4, r4\n"
                "smlad r11, r6, r4, r11\n"
                "sxtb16 r6, r6\n"
                "smlad r10, r6, r4, r10\n"
                "smlad r11, r7, r5, r11\n"
                "sxtb16 r7, r7\n"
                "smlad r10, r7, r5, r10\n"
                "smlad lr, r8, r4, lr\n"
                "sxtb16 r8, r8\n"
                "smlad r12, r8, r4, r12\n"
                "smlad lr, r9, r5, lr\n"
                "sxtb16 r9, r9\n"
                "smlad r12, r9, r5, r12\n"
                "ldr r4, [r0], #4\n"
                "ldm r1!, {r6-r9}\n"
                "sxtb16 r5, r4, ror #8\n"
                "sxtb16 r4, r4\n"
                "smlad r11, r6, r4, r11\n"
                "sxtb16 r6, r6\n"
                "smlad r10, r6, r4, r10\n"
                "smlad r11, r7, r5, r11\n"
                "sxtb16 r7, r7\n"
                "smlad r10, r7, r5, r10\n"
                "smlad lr, r8, r4, lr\n"
                "sxtb16 r8, r8\n"
                "smlad r12, r8, r4, r12\n"
                "smlad lr, r9, r5, lr\n"
                "sxtb16 r9, r9\n"
                "smlad r12, r9, r5, r12\n"
                "ldr r4, [r0], #4\n"
                "ldm r1!, {r6-r9}\n"
                "sxtb16 r5, r4, ror #8\n"
                "sxtb16 r4, r4\n"
                "smlad r11, r6, r4, r11\n"
                "sxtb16 r6, r6\n"
                "smlad r10, r6, r4, r10\n"
                "smlad r11, r7, r5, r11\n"
                "sxtb16 r7, r7\n"
                "smlad r10, r7, r5, r10\n"
                "smlad lr, r8, r4, lr\n"
                "sxtb16 r8, r8\n"
                "smlad r12, r8, r4, r12\n"
                "smlad lr, r9, r5, lr\n"
                "sxtb16 r9, r9\n"
                "smlad r12, r9, r5, r12\n"
                "subs r2, r2, #1\n"
                "bne 1b\n"
                "2:\n"
                "ldr r3, [sp]\n"
                "ldr r2, [r3]\n"
                "cmp r2, #0\n"
                "beq 4f\n"
                "3:\n"
                "ldr r4, [r0], #4\n"
                "ldm r1!, {r6-r9}\n"
                "sxtb16 r5, r4, ror #8\n"
                "sxtb16 r4, r4\n"
                "smlad r11, r6, r4, r11\n"
                "sxtb16 r6, r6\n"
                "smlad r10, r6, r4, r10\n"
                "smlad r11, r7, r5, r11\n"
                "sxtb16 r7, r7\n"
                "smlad r10, r7, r5, r10\n"
                "smlad lr, r8, r4, lr\n"
                "sxtb16 r8, r8\n"
                "smlad r12, r8, r4, r12\n"
                "smlad lr, r9, r5, lr\n"
                "sxtb16 r9, r9\n"
                "smlad r12, r9, r5, r12\n"
                "subs r2, r2, #1\n"
                "bne 3b\n"
                "4:\n"
                "ldr r3, [sp]\n"
                "stm r3, {r10, r11, r12, lr}\n"
                "pop {r3-r11}\n"
                : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3) : : "r12", "lr", "cc", "memory");
            x = r0;
            w = r1;
        }
#else
        sums[0] = 0;
        for (int32_t k = depth / 4; k > 0; --k, x += 4, w += 4) {
            tk_dense_step(sums, tk_load32(x), w);
        }
#endif
        if (depth % 4) {
            uint32_t rest = 0;
            memcpy(&rest, x, depth % 4);
            tk_dense_step(sums, rest, w);
        }
        sums[1] = (uint32_t)((int32_t)(sums[1] - sums[0]) >> 8);
        sums[3] = (uint32_t)((int32_t)(sums[3] - sums[2]) >> 8);
        const uint32_t a0 = sums[0] + (uint32_t)bias[c], a1 = sums[1] + (uint32_t)bias[c + 1];
        const uint32_t a2 = sums[2] + (uint32_t)bias[c + 2], a3 = sums[3] + (uint32_t)bias[c + 3];
        out[c] = (int8_t)tk_dense_out(a0, multiplier, shift, offset);
        if (c + 4 > channels) {
            if (c + 1 < channels) {
                out[c + 1] = (int8_t)tk_dense_out(a1, multiplier, shift, offset);
            }
            if (c + 2 < channels) {
                out[c + 2] = (int8_t)tk_dense_out(a2, multiplier, shift, offset);
            }
            break;
        }
        out[c + 1] = (int8_t)tk_dense_out(a1, multiplier, shift, offset);
        out[c + 2] = (int8_t)tk_dense_out(a2, multiplier, shift, offset);
        out[c + 3] = (int8_t)tk_dense_out(a3, multiplier, shift, offset);
    }
}

void golden_invoke(void *memory)
{
    int8_t *const arena = memory;
    /* 0: op0, 7x5x3 -> 7x5x3, 2835 MACs */
    tk_conv2d_3x3_rests_p3_c3(arena + 204, arena + 184, arena + 0, tk_w_0_pairs, tk_c_pad_127, 1, 35);
    TK_AFTER_LAYER(memory, 0)
    /* 1: op4, 7x5x3 -> 4x5x3, 1620 MACs */
    tk_conv2d_3x3_rests_p3_c3(arena + 184, arena + 368, arena + 0, tk_w_1_pairs, tk_c_pad_0, 2, 20);
    TK_AFTER_LAYER(memory, 1)
    /* 2: op1, 7x5x3 -> 7x5x5, 525 MACs */
    tk_pointwise_p3_c3(arena + 184, arena + 192, arena + 0);
    TK_AFTER_LAYER(memory, 2)
    /* 3: op2, 7x5x5 -> 4x5x5, 900 MACs */
    tk_depthwise_3x3_by_1(arena + 192, arena + 192, arena + 0);
    TK_AFTER_LAYER(memory, 3)
    /* 4: op3, 4x5x5 -> 4x5x3, 300 MACs */
    tk_pointwise_p3_c5(arena + 192, arena + 0, arena + 60);
    TK_AFTER_LAYER(memory, 4)
    /* 5: op5, 4x5x3, 4x5x3 -> 4x5x3 */
    tk_add_asr22(arena + 368, arena + 0, arena + 0);
    TK_AFTER_LAYER(memory, 5)
    /* 6: op6, 4x5x3 -> 2x2x3 */
    tk_average_pool(arena + 0, arena + 48);
    TK_AFTER_LAYER(memory, 6)
    /* 7: op7, 2x2x3 -> 4, 48 MACs */
    tk_dense_pt(arena + 48, arena + 0);
    TK_AFTER_LAYER(memory, 7)
}

int8_t *golden_input(void *memory)
{
    return (void *)((char *)memory + 204);
}

const int8_t *golden_output(const void *memory)
{
    return (const void *)((const char *)memory + 0);
}

void golden_load(void *memory, const void *bytes)
{
    memcpy((char *)memory + 204, (const char *)bytes + 0, 105);
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
