/* monitor.elf: the serial monitor on the bare board. */
#include <stdint.h>

#include "monitor_text.h"
#include "tk_model.h"
#include "tk_port.h"

__attribute__((aligned(16), section(".bss.tk_arena"))) uint8_t tk_arena[TK_ARENA_SIZE];

extern uint32_t _estack[], _stack_limit[], _sdata[], _edata[], _sbss[], _ebss[];

void tk_main(void);
void HardFault_Handler(void);
void tk_report_fault(uint32_t pc, uint32_t lr);

static void put_hex_word(const char *label, uint32_t value)
{
    tk_text(label);
    put_hex(value, 8);
}

static uint32_t monitor_clock_hz(void) { return TK_CPU_HZ; }

static uint32_t monitor_cycles(void) { return tk_port_cycles(); }

static void monitor_watched_invoke(void) { tk_model_invoke(tk_arena); }

/* What was used so far, by whatever ran; "overflow" if the last painted word is gone. */
static void put_stack(void)
{
    const volatile uint32_t *p = _stack_limit;
    if (*p != TK_STACK_PAINT) {
        tk_text("overflow");
        return;
    }
    while ((uintptr_t)p < (uintptr_t)_estack && *p == TK_STACK_PAINT)
        p++;
    tk_number((uint32_t)((uintptr_t)_estack - (uintptr_t)p));
}

static void put_static(void) { tk_number((uint32_t)((uintptr_t)_edata - (uintptr_t)_sdata + (uintptr_t)_ebss - (uintptr_t)_sbss)); }

#ifdef TK_TEST_HOOKS
static uint32_t read_address(void)
{
    uint32_t address = 0;
    for (const char *word = next_word(); tk_hex_digit(*word) >= 0; word++)
        address = address << 4 | (uint32_t)tk_hex_digit(*word);
    return address;
}

/* Writes to an address, so that a test can see memory protection at work. */
static void command_poke(void)
{
    const uint32_t address = read_address();
    TK_REGISTER(address) = 0x12345678u;
    __asm volatile("dsb" ::: "memory");
    put_hex_word("m-x-poke-[", TK_REGISTER(address));
    tk_line("]");
}

/* Loads a double word, which must be aligned to 4. */
static void command_ldrd(void)
{
    const uint32_t address = read_address();
    uint32_t low, high;
    __asm volatile("ldrd %0, %1, [%2]" : "=&r"(low), "=&r"(high) : "r"(address) : "memory");
    put_hex_word("m-x-ldrd-[", high);
    put_hex_word("", low);
    tk_line("]");
}
#define MONITOR_MORE_COMMANDS {"x-poke", command_poke}, {"x-ldrd", command_ldrd},
#endif

#include "monitor.h"

void tk_main(void)
{
    tk_port_init();
    monitor_begin();
    for (;;)
        monitor_step();
}

/* The exception frame on the stack holds, from word 5: lr, pc. */
__attribute__((naked)) void HardFault_Handler(void)
{
    __asm volatile(
        "ldr r0, [sp, #24] \n"
        "ldr r1, [sp, #20] \n"
        "b tk_report_fault \n");
}

/* Tells the host, then stops: only a reset helps. */
__attribute__((used, noreturn)) void tk_report_fault(uint32_t pc, uint32_t lr)
{
    put_hex_word("\r\ne-[fault: cfsr 0x", TK_REGISTER(0xE000ED28));
    put_hex_word(", hfsr 0x", TK_REGISTER(0xE000ED2C));
    put_hex_word(", bfar 0x", TK_REGISTER(0xE000ED38));
    put_hex_word(", pc 0x", pc);
    put_hex_word(", lr 0x", lr);
    tk_line("; the board stops until it is reset]");
    tk_line("m-ready");
    for (;;) {
    }
}
