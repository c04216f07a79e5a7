/* The USART of STM32F2 and F4. */
#include "tk_port.h"

#define SR TK_REGISTER(TK_UART_BASE + 0x00)
#define DR TK_REGISTER(TK_UART_BASE + 0x04)
#define BRR TK_REGISTER(TK_UART_BASE + 0x08)
#define CR1 TK_REGISTER(TK_UART_BASE + 0x0C)
#define SR_RXNE (1u << 5)
#define SR_TXE (1u << 7)

void tk_port_uart_init(void)
{
    BRR = TK_UART_DIVIDER;
    CR1 = 1u << 13 | 1u << 3 | 1u << 2; /* UE, TE, RE */
}

void tk_port_putc(uint8_t byte)
{
    while (!(SR & SR_TXE)) {
    }
    DR = byte;
}

uint8_t tk_port_getc(void)
{
    while (!(SR & SR_RXNE)) {
    }
    return (uint8_t)DR; /* this read also clears an overrun */
}
