/* What sketches of tinykit's packages take of Arduino's API, for emulated boards. */
#ifndef ARDUINO_H
#define ARDUINO_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

void setup(void);
void loop(void);

#ifdef __cplusplus
extern "C" {
#endif
unsigned long micros(void);
unsigned long millis(void);
void delay(unsigned long milliseconds);
#ifdef __cplusplus
}

/* The UART that the host sees. */
class EmulatedSerial {
public:
    void begin(unsigned long) {}
    /* Waits for a byte, where a real one answers -1 if there is none. */
    int read();
    size_t write(uint8_t byte);
    explicit operator bool() const { return true; }
};
extern EmulatedSerial Serial;
#endif

#endif
