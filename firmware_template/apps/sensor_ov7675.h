/*
 * An OV7675 camera: all that the sketch knows of it. Pictures of 176 x 144, grey, or in colour with 5, 6 and 5 bits.
 *
 * For Arduino's library Arduino_OV767X. The one of the Tiny Machine Learning Kit (Harvard_TinyMLx) wants the kind of camera as well:
 * there add ", OV7675" to Camera.begin.
 */
#ifndef SENSOR_OV7675_H
#define SENSOR_OV7675_H

#include <Arduino.h>
#include <Arduino_OV767X.h>

#define SENSOR_WIDTH 176
#define SENSOR_HEIGHT 144
#define SENSOR_BYTES (SENSOR_COLOURS == 3 ? 2 : 1) /* a pixel */

static uint8_t sensor_picture[SENSOR_WIDTH * SENSOR_HEIGHT * SENSOR_BYTES];

/* False if there is no camera. */
static bool sensor_begin() { return Camera.begin(QCIF, SENSOR_COLOURS == 3 ? RGB565 : GRAYSCALE, 1) != 0; }

/* Takes a picture. */
static void sensor_take() { Camera.readFrame(sensor_picture); }

/* Brightness 0 to 255 of a pixel; colours are red, green, blue. */
static uint8_t sensor_pixel(int x, int y, int colour)
{
    const uint8_t *const pixel = sensor_picture + (y * SENSOR_WIDTH + x) * SENSOR_BYTES;
#if SENSOR_COLOURS == 3
    const unsigned bits = (unsigned)pixel[0] << 8 | pixel[1];
    const unsigned value = colour == 0 ? bits >> 11 : colour == 1 ? bits >> 5 & 63 : bits & 31;
    return (uint8_t)(colour == 1 ? value << 2 | value >> 4 : value << 3 | value >> 2);
#else
    (void)colour;
    return *pixel;
#endif
}

#endif
