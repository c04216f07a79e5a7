/* A stand-in for the part of Mbed that tk_port.h uses, over tinykit's own UART and clock. */
#ifndef MBED_H
#define MBED_H

#include <stddef.h>
#include <stdint.h>

enum PinName { CONSOLE_TX, CONSOLE_RX };

namespace mbed {
class BufferedSerial {
public:
    constexpr BufferedSerial(PinName, PinName, int) {}
    int write(const void *bytes, size_t count);
    int read(void *bytes, size_t count);
};
}

extern "C" uint32_t us_ticker_read(void);

#endif
