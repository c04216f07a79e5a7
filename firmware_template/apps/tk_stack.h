/*
 * How much stack a call takes: what lies below the stack pointer is painted before it and looked at after it.
 *
 * Nothing that anybody owns is painted: below the stack pointer of the running function there is only free memory, as far as the stack
 * reaches; the caller says how far to go. What interrupts leave there in between counts as well.
 */
#ifndef TK_STACK_H
#define TK_STACK_H

#include <stdint.h>

#define TK_STACK_PAINT 0xA5C35A3Cu

/* Bytes that these functions may take themselves. */
#if defined(__arm__)
#define TK_STACK_GAP 64
#else
#define TK_STACK_GAP 256
#endif

/* 0 where nobody told how to find it: nothing is painted then, and the stack is not measured. */
static inline __attribute__((always_inline)) uintptr_t tk_stack_pointer(void)
{
    uintptr_t pointer = 0;
#if defined(__arm__) || defined(__aarch64__)
    __asm__ volatile("mov %0, sp" : "=r"(pointer));
#elif defined(__x86_64__)
    __asm__ volatile("mov %%rsp, %0" : "=r"(pointer));
#endif
    return pointer;
}

/* Paints `bytes` below `top`, which is tk_stack_pointer() of the caller. */
static __attribute__((noinline)) void tk_stack_paint(uintptr_t top, uint32_t bytes)
{
    volatile uint32_t *const low = (volatile uint32_t *)((top - bytes) & ~(uintptr_t)3);
    for (uint32_t i = 0; top != 0 && i < (bytes - TK_STACK_GAP) / 4; i++)
        low[i] = TK_STACK_PAINT;
}

/* Bytes below `top` that were used since; `bytes` if it was all of them, or more; 0 if `top` is. */
static __attribute__((noinline)) uint32_t tk_stack_used(uintptr_t top, uint32_t bytes)
{
    const volatile uint32_t *const low = (const volatile uint32_t *)((top - bytes) & ~(uintptr_t)3);
    uint32_t i = 0;
    if (top == 0)
        return 0;
    while (i < (bytes - TK_STACK_GAP) / 4 && low[i] == TK_STACK_PAINT)
        i++;
    return bytes - 4 * i;
}

#endif
