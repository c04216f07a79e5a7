/* The USART and LPUART of STM32F7, L4 and H7. */
#include "tk_port.h"

#define CR1 TK_REGISTER(TK_UART_BASE + 0x00)
#define BRR TK_REGISTER(TK_UART_BASE + 0x0C)
#define ISR TK_REGISTER(TK_UART_BASE + 0x1C)
#define ICR TK_REGISTER(TK_UART_BASE + 0x20)
#define RDR TK_REGISTER(TK_UART_BASE + 0x24)
#define TDR TK_REGISTER(TK_UART_BASE + 0x28)
#define ISR_ORE (1u << 3)
#define ISR_RXNE (1u << 5)
#define ISR_TXE (1u << 7)

void tk_port_uart_init(void)
{
    BRR = TK_UART_DIVIDER;
    CR1 = 1u << 3 | 1u << 2 | 1u; /* TE, RE, UE */
}

void tk_port_putc(uint8_t byte)
{
    while (!(ISR & ISR_TXE)) {
    }
    TDR = byte;
}

uint8_t tk_port_getc(void)
{
    for (;;) {
        const uint32_t status = ISR;
        if (status & ISR_ORE)
            ICR = ISR_ORE; /* bytes are lost; the monitor answers that command with an error */
        if (status & ISR_RXNE)
            break;
    }
    return (uint8_t)RDR;
}
