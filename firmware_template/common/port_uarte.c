/* nRF52's UARTE: EasyDMA, one byte at a time. Its buffers must be in RAM. */
#include "tk_port.h"

#define TASKS_STARTRX TK_REGISTER(TK_UART_BASE + 0x000)
#define TASKS_STARTTX TK_REGISTER(TK_UART_BASE + 0x008)
#define EVENTS_ENDRX TK_REGISTER(TK_UART_BASE + 0x110)
#define EVENTS_ENDTX TK_REGISTER(TK_UART_BASE + 0x120)
#define ENABLE TK_REGISTER(TK_UART_BASE + 0x500)
#define BAUDRATE TK_REGISTER(TK_UART_BASE + 0x524)
#define RXD_PTR TK_REGISTER(TK_UART_BASE + 0x534)
#define RXD_MAXCNT TK_REGISTER(TK_UART_BASE + 0x538)
#define TXD_PTR TK_REGISTER(TK_UART_BASE + 0x544)
#define TXD_MAXCNT TK_REGISTER(TK_UART_BASE + 0x548)
#define CONFIG TK_REGISTER(TK_UART_BASE + 0x56C)

static volatile uint8_t sent, received;

void tk_port_uart_init(void)
{
    BAUDRATE = 0x01D60000u; /* 115200 */
    CONFIG = 0;             /* no parity, no flow control */
    ENABLE = 8;
}

void tk_port_putc(uint8_t byte)
{
    sent = byte;
    EVENTS_ENDTX = 0;
    TXD_PTR = (uint32_t)(uintptr_t)&sent;
    TXD_MAXCNT = 1;
    TASKS_STARTTX = 1;
    while (!EVENTS_ENDTX) {
    }
}

uint8_t tk_port_getc(void)
{
    EVENTS_ENDRX = 0;
    RXD_PTR = (uint32_t)(uintptr_t)&received;
    RXD_MAXCNT = 1;
    TASKS_STARTRX = 1;
    while (!EVENTS_ENDRX) {
    }
    return received;
}
