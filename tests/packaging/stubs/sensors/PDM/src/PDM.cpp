#include "PDM.h"

#include <Arduino.h>

extern "C" const int16_t recorded_sound[];
extern "C" const uint32_t recorded_samples;

PDMClass PDM;
static void (*receive)(void);
static uint32_t played;
static int waiting; /* bytes */

int PDMClass::begin(int channels, int rate) { return channels == 1 && rate == 16000; }

void PDMClass::onReceive(void (*callback)(void)) { receive = callback; }

int PDMClass::available() { return waiting; }

int PDMClass::read(void *bytes, int size)
{
    memcpy(bytes, recorded_sound + played, (size_t)size);
    played += (uint32_t)size / 2;
    waiting -= size;
    return size;
}

/* What the interrupt does on a board: 256 samples at a time. At the end of the recording the board waits for a byte. */
extern "C" void emulated_tick(void)
{
    if (played == recorded_samples)
        Serial.read();
    const uint32_t left = recorded_samples - played;
    waiting = 2 * (int)(left < 256 ? left : 256);
    receive();
}
