#ifndef TENSORFLOW_LITE_SCHEMA_SCHEMA_GENERATED_H_
#define TENSORFLOW_LITE_SCHEMA_SCHEMA_GENERATED_H_

#include "tensorflow/lite/micro/micro_interpreter.h"

namespace tflite {

inline const Model *GetModel(const void *bytes) { return static_cast<const Model *>(bytes); }

} // namespace tflite

#endif
