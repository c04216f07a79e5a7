/* Where TFLM's newest sources have it; packages get it with the interpreter, because in older ones it is in tensorflow/lite/schema. */
#ifndef TENSORFLOW_LITE_MICRO_SCHEMA_SCHEMA_GENERATED_H_
#define TENSORFLOW_LITE_MICRO_SCHEMA_SCHEMA_GENERATED_H_

#include <stdint.h>

namespace tflite {

struct Model {
    uint32_t version() const { return 3; }
};

inline const Model *GetModel(const void *bytes) { return static_cast<const Model *>(bytes); }

} // namespace tflite

#endif
