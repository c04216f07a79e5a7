/* What the programs ask of Zephyr: a byte stream, a clock, a place for the arena. For another serial port change this file and nothing else. */
#ifndef TK_PORT_H
#define TK_PORT_H

#include <stdint.h>
#include <zephyr/device.h>
#include <zephyr/drivers/uart.h>
#include <zephyr/kernel.h>

/* Before the definition of an arena; a section of fast memory could be named here. */
#define TK_PORT_ARENA __attribute__((aligned(16)))

static const struct device *const tk_port_uart = DEVICE_DT_GET(DT_CHOSEN(zephyr_console));

/* The console is open already. */
static inline void tk_port_init(void) {}

/* Sends one byte. */
static inline void tk_port_putc(uint8_t byte) { uart_poll_out(tk_port_uart, byte); }

/* Waits for one byte. */
static inline uint8_t tk_port_getc(void)
{
    unsigned char byte;
    while (uart_poll_in(tk_port_uart, &byte) != 0) {
    }
    return byte;
}

/* Microseconds since some moment, modulo 2^32. To be called at least once in 2^32 cycles, or it loses them. */
static inline uint32_t tk_port_microseconds(void)
{
    static uint32_t last;
    static uint64_t cycles;
    const uint32_t now = k_cycle_get_32();
    cycles += now - last;
    last = now;
    return (uint32_t)k_cyc_to_us_floor64(cycles);
}

#endif
