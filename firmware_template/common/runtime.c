/*
 * Memory functions for builds without a C library, small rather than fast: kernels copy with code of their own.
 * Built with -fno-builtin (and GCC's -fno-tree-loop-distribute-patterns), or the loops would become calls of themselves.
 */
#include <stdint.h>
#include <string.h>

/* ARMv7-M loads and stores a word at any address; a type of alignment 1 keeps compilers from LDRD and LDM, which do not. */
typedef uint32_t tk_word __attribute__((aligned(1), may_alias));

void *memmove(void *to, const void *from, size_t bytes)
{
    uint8_t *d = to;
    const uint8_t *s = from;
    if ((uintptr_t)d - (uintptr_t)s < bytes) { /* the end of `from` is overwritten by the start of `to`: backwards */
        for (; bytes >= sizeof(tk_word); bytes -= sizeof(tk_word))
            *(tk_word *)(d + bytes - sizeof(tk_word)) = *(const tk_word *)(s + bytes - sizeof(tk_word));
        while (bytes-- > 0)
            d[bytes] = s[bytes];
        return to;
    }
    for (; bytes >= sizeof(tk_word); bytes -= sizeof(tk_word), d += sizeof(tk_word), s += sizeof(tk_word))
        *(tk_word *)d = *(const tk_word *)s;
    while (bytes-- > 0)
        *d++ = *s++;
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    uint8_t *d = to;
    const uint8_t *s = from;
    for (; bytes >= sizeof(tk_word); bytes -= sizeof(tk_word), d += sizeof(tk_word), s += sizeof(tk_word))
        *(tk_word *)d = *(const tk_word *)s;
    while (bytes-- > 0)
        *d++ = *s++;
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    uint8_t *d = to;
    const uint32_t word = 0x01010101u * (uint8_t)value;
    for (; bytes >= sizeof(tk_word); bytes -= sizeof(tk_word), d += sizeof(tk_word))
        *(tk_word *)d = word;
    while (bytes-- > 0)
        *d++ = (uint8_t)value;
    return to;
}

int memcmp(const void *first, const void *second, size_t bytes)
{
    const uint8_t *a = first, *b = second;
    for (; bytes > 0; bytes--, a++, b++)
        if (*a != *b)
            return *a - *b;
    return 0;
}

#ifdef __clang__
/* Clang calls these names of Arm's run-time ABI where GCC calls the C library's. Aligned variants promise what we do not need. */
void __aeabi_memcpy(void *to, const void *from, size_t bytes);
void __aeabi_memcpy4(void *to, const void *from, size_t bytes) __attribute__((alias("__aeabi_memcpy")));
void __aeabi_memcpy8(void *to, const void *from, size_t bytes) __attribute__((alias("__aeabi_memcpy")));
void __aeabi_memmove(void *to, const void *from, size_t bytes);
void __aeabi_memmove4(void *to, const void *from, size_t bytes) __attribute__((alias("__aeabi_memmove")));
void __aeabi_memmove8(void *to, const void *from, size_t bytes) __attribute__((alias("__aeabi_memmove")));
void __aeabi_memset(void *to, size_t bytes, int value);
void __aeabi_memset4(void *to, size_t bytes, int value) __attribute__((alias("__aeabi_memset")));
void __aeabi_memset8(void *to, size_t bytes, int value) __attribute__((alias("__aeabi_memset")));
void __aeabi_memclr(void *to, size_t bytes);
void __aeabi_memclr4(void *to, size_t bytes) __attribute__((alias("__aeabi_memclr")));
void __aeabi_memclr8(void *to, size_t bytes) __attribute__((alias("__aeabi_memclr")));

void __aeabi_memcpy(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }
void __aeabi_memmove(void *to, const void *from, size_t bytes) { memmove(to, from, bytes); }
void __aeabi_memset(void *to, size_t bytes, int value) { memset(to, value, bytes); }
void __aeabi_memclr(void *to, size_t bytes) { memset(to, 0, bytes); }
#endif
