/* The PDM microphone of the Nano 33 BLE Sense: all that the sketch knows of it. */
#ifndef SENSOR_PDM_H
#define SENSOR_PDM_H

#include <Arduino.h>
#include <PDM.h>

#define SENSOR_RING 8192 /* samples that may wait while the network runs: half a second; a power of two */

static volatile int16_t sensor_ring[SENSOR_RING]; /* an interrupt writes it */
static volatile uint32_t sensor_received; /* samples, since the beginning */
static uint32_t sensor_taken;

/* Called from an interrupt. */
static void sensor_receive()
{
    static int16_t part[256];
    int bytes = PDM.available();
    while (bytes > 0) {
        const int got = PDM.read(part, bytes < (int)sizeof part ? bytes : (int)sizeof part);
        if (got <= 0)
            return;
        for (int i = 0; i < got / 2; i++)
            sensor_ring[(sensor_received + i) % SENSOR_RING] = part[i];
        sensor_received = sensor_received + got / 2;
        bytes -= got;
    }
}

/* False if there is no microphone. */
static bool sensor_begin(int rate)
{
    PDM.onReceive(sensor_receive);
    return PDM.begin(1, rate) != 0;
}

/* Waits for `count` samples. Returns how many were lost before them, because nobody took them in time. */
static uint32_t sensor_read(int16_t *samples, uint32_t count)
{
    uint32_t lost = 0;
    for (uint32_t i = 0; i < count; i++) {
        while (sensor_taken == sensor_received)
            delay(1);
        const uint32_t waiting = sensor_received - sensor_taken;
        if (waiting > SENSOR_RING) {
            lost += waiting - SENSOR_RING;
            sensor_taken += waiting - SENSOR_RING;
        }
        samples[i] = sensor_ring[sensor_taken % SENSOR_RING];
        sensor_taken++;
    }
    return lost;
}

#endif
