/* From reset to tk_main(): FPU, .data and .bss, and in the monitor image a painted stack. The arena is not cleared: a model owes it nothing. */
#include <stdint.h>

/* From the linker script. */
extern uint32_t _estack[], _stack_limit[];
extern uint32_t _sidata[], _sdata[], _edata[], _sbss[], _ebss[];

void tk_main(void);
void tk_start(void);
void Reset_Handler(void);
void HardFault_Handler(void);

/* No interrupt is ever enabled and no fault has a handler of its own, so all of them end in HardFault: four entries are enough. */
__attribute__((section(".isr_vector"), used)) void (*const tk_vectors[4])(void) = {
    (void (*)(void))_estack,
    Reset_Handler,
    HardFault_Handler, /* NMI */
    HardFault_Handler,
};

/* Before the first instruction of compiled C: our vectors, for a bootloader may have left its own, and the FPU, which C may use at once. */
__attribute__((naked, used)) void Reset_Handler(void)
{
    __asm volatile(
#ifdef TK_STACK_PAINT /* the monitor's: a bootloader may have left an interrupt enabled, and we have no handlers */
        "cpsid i \n"
#endif
        "ldr r0, =0xE000ED08 \n" /* SCB->VTOR */
        "ldr r1, =tk_vectors \n"
        "str r1, [r0]        \n"
#ifdef __ARM_FP
        "ldr r1, [r0, #0x80] \n" /* SCB->CPACR: full access to CP10 and CP11 */
        "orr r1, r1, #0xF00000 \n"
        "str r1, [r0, #0x80] \n"
#endif
        "dsb \n"
        "isb \n"
        "b tk_start \n"
        ".ltorg \n");
}

__attribute__((used, noreturn)) void tk_start(void)
{
    const uint32_t *from = _sidata;
    for (uint32_t *to = _sdata; to < _edata; to++)
        *to = *from++;
    for (uint32_t *to = _sbss; to < _ebss; to++)
        *to = 0;
#ifdef TK_STACK_PAINT
    uint32_t *stack;
    __asm volatile("mov %0, sp" : "=r"(stack));
    for (uint32_t *to = _stack_limit; to < stack; to++)
        *(volatile uint32_t *)to = TK_STACK_PAINT;
#endif
    tk_main();
    for (;;) {
    }
}

/* The monitor has one that reports. */
__attribute__((weak)) void HardFault_Handler(void)
{
    for (;;) {
    }
}
