/*
 * The core's cycle counter, and the clock that it counts: Cortex-M3 and larger. Elsewhere, and where the counter stands still (under QEMU),
 * tk_cycles_start gives 0, and cycles are not known.
 */
#ifndef TK_CYCLES_H
#define TK_CYCLES_H

#include <stdint.h>

#include "tk_port.h"

#define TK_CLOCK_MICROSECONDS 20000u
#define TK_CLOCK_STEP 10000u /* Hz; crystals are less exact than that */

#if defined(__ARM_ARCH_7M__) || defined(__ARM_ARCH_7EM__) || defined(__ARM_ARCH_8M_MAIN__)
#define TK_CORE_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

static inline uint32_t tk_cycles(void) { return TK_CORE_REGISTER(0xE0001004); }

/* Starts the counter; returns the core's clock in Hz by the port's own microseconds, or 0. */
static inline uint32_t tk_cycles_start(void)
{
    TK_CORE_REGISTER(0xE000EDFC) |= 1u << 24;      /* DEMCR: trace enabled */
    TK_CORE_REGISTER(0xE0001FB0) = 0xC5ACCE55u;    /* Cortex-M7 locks the unit */
    TK_CORE_REGISTER(0xE0001000) |= 1u;            /* DWT_CTRL: count cycles */
    const uint32_t begin = tk_port_microseconds(), first = tk_cycles();
    uint32_t passed;
    do {
        passed = tk_port_microseconds() - begin;
    } while (passed < TK_CLOCK_MICROSECONDS);
    const uint64_t rate = (uint64_t)(tk_cycles() - first) * 1000000u / passed;
    return (uint32_t)((rate + TK_CLOCK_STEP / 2) / TK_CLOCK_STEP * TK_CLOCK_STEP);
}
#else
static inline uint32_t tk_cycles(void) { return 0; }

static inline uint32_t tk_cycles_start(void) { return 0; }
#endif

#endif
