/* The APB UART of Arm's MPS2 images, as QEMU has it. */
#include "tk_port.h"

#define DATA TK_REGISTER(TK_UART_BASE + 0x00)
#define STATE TK_REGISTER(TK_UART_BASE + 0x04)
#define CTRL TK_REGISTER(TK_UART_BASE + 0x08)
#define BAUDDIV TK_REGISTER(TK_UART_BASE + 0x10)
#define STATE_TX_FULL (1u << 0)
#define STATE_RX_FULL (1u << 1)

void tk_port_uart_init(void)
{
    BAUDDIV = TK_UART_DIVIDER; /* below 16 nothing moves */
    CTRL = 3;                  /* transmit, receive */
}

void tk_port_putc(uint8_t byte)
{
    while (STATE & STATE_TX_FULL) {
    }
    DATA = byte;
}

uint8_t tk_port_getc(void)
{
    while (!(STATE & STATE_RX_FULL)) {
    }
    return (uint8_t)DATA;
}
