/* What the monitor needs of a board: a byte stream and a clock. One port_<family>.c a UART family, tk_board.h made from the board table. */
#ifndef TK_PORT_H
#define TK_PORT_H

#include <stdint.h>

#include "tk_board.h"

/* Before the definition of an arena: the linker script puts it first, and nobody clears it. */
#define TK_PORT_ARENA __attribute__((aligned(16), section(".bss.tk_arena")))

#define TK_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Connects the UART to clock and pins, sets 115200 8N1, starts the clock. */
void tk_port_init(void);

/* Sends one byte; returns when the UART has taken it. */
void tk_port_putc(uint8_t byte);

/* Waits for one byte. */
uint8_t tk_port_getc(void);

/* Core cycles, modulo 2^32. */
uint32_t tk_port_cycles(void);

/* Microseconds since tk_port_init, modulo 2^32. To be called at least once in 2^32 cycles, or it loses them. */
uint32_t tk_port_microseconds(void);

/* The family's part of tk_port_init. */
void tk_port_uart_init(void);

#endif
