#include "Arduino_LSM9DS1.h"

#include <Arduino.h>

extern "C" const float recorded_motion[];
extern "C" const uint32_t recorded_readings;

LSM9DS1Class IMU;
static uint32_t moved;

int LSM9DS1Class::begin() { return 1; }

/* At the end of the recording the board waits for a byte. */
int LSM9DS1Class::accelerationAvailable()
{
    if (moved == recorded_readings)
        Serial.read();
    return 1;
}

int LSM9DS1Class::gyroscopeAvailable() { return 1; }

int LSM9DS1Class::readAcceleration(float &x, float &y, float &z)
{
    const float *const values = recorded_motion + 6 * moved++;
    x = values[0];
    y = values[1];
    z = values[2];
    return 1;
}

int LSM9DS1Class::readGyroscope(float &x, float &y, float &z)
{
    const float *const values = recorded_motion + 6 * (moved - 1);
    x = values[3];
    y = values[4];
    z = values[5];
    return 1;
}
