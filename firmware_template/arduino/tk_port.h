/*
 * Everything that this sketch asks of the outside: a byte stream, a clock, a place for the arena. For another board, or another
 * serial port (Serial1), change this file and nothing else.
 */
#ifndef TK_PORT_H
#define TK_PORT_H

#include <Arduino.h>
#include <stdint.h>

/* Before the definition of an arena; a section of fast memory could be named here. */
#define TK_PORT_ARENA __attribute__((aligned(16)))

#define TK_PORT_BAUD 115200
#define TK_PORT_WAIT_MS 5000 /* for somebody who opens the serial monitor of a board with native USB */

/* Opens the serial port; a board without a listener goes on after a while. */
static inline void tk_port_init(void)
{
    Serial.begin(TK_PORT_BAUD);
    const unsigned long start = millis();
    while (!Serial && millis() - start < TK_PORT_WAIT_MS) {
    }
}

/* Sends one byte. */
static inline void tk_port_putc(uint8_t byte) { Serial.write(byte); }

/* Waits for one byte. */
static inline uint8_t tk_port_getc(void)
{
    int byte;
    do {
        byte = Serial.read();
    } while (byte < 0);
    return (uint8_t)byte;
}

/* Microseconds since some moment, modulo 2^32. */
static inline uint32_t tk_port_microseconds(void) { return (uint32_t)micros(); }

#endif
