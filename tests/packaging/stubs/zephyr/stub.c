#include <stdint.h>
#include <zephyr/drivers/uart.h>
#include <zephyr/kernel.h>

#include "tk_board.h"

void tk_port_init(void);
void tk_port_putc(uint8_t byte);
uint8_t tk_port_getc(void);
uint32_t tk_port_cycles(void);
void tk_main(void);
int main(void);

const struct device stub_console = {0};

void uart_poll_out(const struct device *uart, unsigned char byte)
{
    (void)uart;
    tk_port_putc(byte);
}

int uart_poll_in(const struct device *uart, unsigned char *byte)
{
    (void)uart;
    *byte = tk_port_getc();
    return 0;
}

uint32_t k_cycle_get_32(void) { return tk_port_cycles(); }

uint64_t k_cyc_to_us_floor64(uint64_t cycles) { return cycles / (TK_CPU_HZ / 1000000u); }

void tk_main(void)
{
    tk_port_init();
    main();
}
