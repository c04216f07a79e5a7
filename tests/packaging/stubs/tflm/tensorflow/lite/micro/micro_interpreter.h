/* A stand-in for the part of TensorFlow Lite Micro that packages use: its interpreter computes with tinykit's engine, called "standin". */
#ifndef TENSORFLOW_LITE_MICRO_MICRO_INTERPRETER_H_
#define TENSORFLOW_LITE_MICRO_MICRO_INTERPRETER_H_

#include <stddef.h>
#include <stdint.h>

#include "tensorflow/lite/micro/schema/schema_generated.h"

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

union TfLitePtrUnion {
    char *raw;
    int8_t *int8;
};

struct TfLiteTensor {
    TfLitePtrUnion data;
};

namespace tflite {

class MicroOpResolver {
public:
    unsigned int count = 0;
};

class MicroInterpreter {
public:
    MicroInterpreter(const Model *model, const MicroOpResolver &resolver, uint8_t *arena, size_t size);
    TfLiteStatus AllocateTensors();
    TfLiteStatus Invoke();
    TfLiteTensor *input(size_t) { return &input_; }
    TfLiteTensor *output(size_t) { return &output_; }
    size_t arena_used_bytes() const { return size_; }

private:
    const MicroOpResolver &resolver_;
    uint8_t *arena_;
    size_t size_;
    TfLiteTensor input_, output_;
};

} // namespace tflite

#endif
