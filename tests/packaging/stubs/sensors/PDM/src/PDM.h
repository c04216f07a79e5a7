/* A stand-in for the part of Arduino's PDM library that sketches use; its sound is recorded_sound. */
#ifndef PDM_H
#define PDM_H

#include <stdint.h>

class PDMClass {
public:
    int begin(int channels, int rate);
    void onReceive(void (*callback)(void));
    int available();
    int read(void *bytes, int size);
};
extern PDMClass PDM;

#endif
