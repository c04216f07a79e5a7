#include "mbed.h"

extern "C" {
void tk_port_init(void);
void tk_port_putc(uint8_t byte);
uint8_t tk_port_getc(void);
uint32_t tk_port_microseconds(void);
void tk_main(void);
}
int main();

int mbed::BufferedSerial::write(const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        tk_port_putc(static_cast<const uint8_t *>(bytes)[i]);
    return (int)count;
}

int mbed::BufferedSerial::read(void *bytes, size_t)
{
    *static_cast<uint8_t *>(bytes) = tk_port_getc();
    return 1;
}

uint32_t us_ticker_read(void) { return tk_port_microseconds(); }

void tk_main(void)
{
    tk_port_init();
    main();
}
