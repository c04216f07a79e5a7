/* A stand-in for the part of Arduino's library that sketches use; its readings are recorded_motion, six values each. */
#ifndef ARDUINO_LSM9DS1_H
#define ARDUINO_LSM9DS1_H

#include <stdint.h>

class LSM9DS1Class {
public:
    int begin();
    int accelerationAvailable();
    int gyroscopeAvailable();
    int readAcceleration(float &x, float &y, float &z);
    int readGyroscope(float &x, float &y, float &z);
};
extern LSM9DS1Class IMU;

#endif
