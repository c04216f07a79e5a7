/* Arduino's API over tinykit's port of the board. */
#include "Arduino.h"

extern "C" { /* not from tk_port.h: that name is the sketch's */
void tk_port_init(void);
void tk_port_putc(uint8_t byte);
uint8_t tk_port_getc(void);
uint32_t tk_port_microseconds(void);
void tk_main(void);
}

EmulatedSerial Serial;

int EmulatedSerial::read() { return tk_port_getc(); }

size_t EmulatedSerial::write(uint8_t byte)
{
    tk_port_putc(byte);
    return 1;
}

extern "C" unsigned long micros(void) { return tk_port_microseconds(); }

extern "C" unsigned long millis(void) { return micros() / 1000; }

/* Stand-ins for libraries define it, to do what interrupts do on a board. */
extern "C" __attribute__((weak)) void emulated_tick(void) {}

extern "C" void delay(unsigned long milliseconds)
{
    emulated_tick();
    const unsigned long start = millis();
    while (millis() - start < milliseconds) {
    }
}

extern "C" void tk_main(void)
{
    tk_port_init();
    setup();
    for (;;)
        loop();
}
