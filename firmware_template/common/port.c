/* The part of the port that is the same everywhere: pins and clocks as the board table lists them, and time. */
#include "tk_port.h"

#define DEMCR TK_REGISTER(0xE000EDFC)
#define DWT_CTRL TK_REGISTER(0xE0001000)
#define DWT_CYCCNT TK_REGISTER(0xE0001004)
#define DWT_LAR TK_REGISTER(0xE0001FB0)
#define SYST_CSR TK_REGISTER(0xE000E010)
#define SYST_RVR TK_REGISTER(0xE000E014)
#define SYST_CVR TK_REGISTER(0xE000E018)
#define SYSTICK_TOP 0xFFFFFFu

static uint32_t has_cycle_counter;
static uint32_t systick_total, systick_last;
static uint32_t microseconds, cycles_seen, cycles_left;

static void clock_init(void)
{
    DEMCR |= 1u << 24; /* TRCENA */
    DWT_LAR = 0xC5ACCE55u; /* Cortex-M7 locks the unit */
    DWT_CYCCNT = 0;
    DWT_CTRL |= 1u;
    SYST_RVR = SYSTICK_TOP;
    SYST_CVR = 0;
    SYST_CSR = 5; /* core clock, no interrupt */
    for (volatile uint32_t wait = 0; wait < 20; wait++) {
    }
    has_cycle_counter = DWT_CYCCNT; /* stays 0 under QEMU */
    cycles_seen = tk_port_cycles();
}

void tk_port_init(void)
{
#define TK_MODIFY(address, clear, set) TK_REGISTER(address) = (TK_REGISTER(address) & ~(clear)) | (set);
    TK_UART_SETUP(TK_MODIFY)
    tk_port_uart_init();
    clock_init();
}

/* Without a cycle counter SysTick stands in; it wraps after 2^24 cycles, and a longer pause between two calls is lost. */
uint32_t tk_port_cycles(void)
{
    if (has_cycle_counter)
        return DWT_CYCCNT;
    const uint32_t now = SYSTICK_TOP - SYST_CVR;
    systick_total += (now - systick_last) & SYSTICK_TOP;
    systick_last = now;
    return systick_total;
}

uint32_t tk_port_microseconds(void)
{
    const uint32_t now = tk_port_cycles();
    const uint32_t rate = TK_CPU_HZ / 1000000u;
    const uint32_t passed = now - cycles_seen;
    const uint32_t whole = passed / rate;
    cycles_seen = now;
    cycles_left += passed - whole * rate; /* not passed + cycles_left, which may exceed 32 bits */
    microseconds += whole + cycles_left / rate;
    cycles_left %= rate;
    return microseconds;
}
