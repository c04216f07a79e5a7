/* A stand-in for the part of Arduino's library that sketches use; its pictures are recorded_pictures. */
#ifndef ARDUINO_OV767X_H
#define ARDUINO_OV767X_H

#include <stdint.h>

enum { QCIF = 3 };
enum { RGB565 = 1, GRAYSCALE = 2 };

class OV767XClass {
public:
    int begin(int resolution, int format, int frames_a_second);
    void readFrame(void *bytes);
};
extern OV767XClass Camera;

#endif
