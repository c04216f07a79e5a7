/*
 * The inertial sensor of the Nano 33 BLE Sense: all that the sketch knows of it. The first revision has an LSM9DS1 (119 readings a second);
 * for Sense Rev2 include <Arduino_BMI270_BMM150.h> in its place, whose functions are the same.
 */
#ifndef SENSOR_IMU_H
#define SENSOR_IMU_H

#include <Arduino.h>
#include <Arduino_LSM9DS1.h>

#define SENSOR_EVERY 1 /* of so many readings one is taken, where the training data are slower */

/* False if there is no sensor. */
static bool sensor_begin() { return IMU.begin() != 0; }

/* Waits for a reading: acceleration in g, and for 6 axes rotation in degrees per second. */
static void sensor_read(float *values, int axes)
{
    for (int i = 0; i < SENSOR_EVERY; i++) {
        while (!IMU.accelerationAvailable())
            delay(1);
        IMU.readAcceleration(values[0], values[1], values[2]);
        if (axes > 3) {
            while (!IMU.gyroscopeAvailable())
                delay(1);
            IMU.readGyroscope(values[3], values[4], values[5]);
        }
    }
}

#endif
