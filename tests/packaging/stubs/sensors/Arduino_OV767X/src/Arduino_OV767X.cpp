#include "Arduino_OV767X.h"

#include <Arduino.h>

extern "C" const uint8_t recorded_pictures[];
extern "C" const uint32_t recorded_count;

OV767XClass Camera;
static uint32_t shown, size;

int OV767XClass::begin(int resolution, int format, int)
{
    size = 176 * 144 * (format == RGB565 ? 2 : 1);
    return resolution == QCIF;
}

/* At the end of the recording the board waits for a byte. */
void OV767XClass::readFrame(void *bytes)
{
    if (shown == recorded_count)
        Serial.read();
    memcpy(bytes, recorded_pictures + shown++ * size, size);
}
