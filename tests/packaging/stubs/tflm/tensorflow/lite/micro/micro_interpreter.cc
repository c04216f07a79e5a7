#include "tensorflow/lite/micro/micro_interpreter.h"

#include "standin.h"

namespace tflite {

MicroInterpreter::MicroInterpreter(const Model *, const MicroOpResolver &resolver, uint8_t *arena, size_t size)
    : resolver_(resolver), arena_(arena), size_(size)
{
}

TfLiteStatus MicroInterpreter::AllocateTensors()
{
    if (size_ < STANDIN_ARENA_SIZE || resolver_.count == 0 || reinterpret_cast<uintptr_t>(arena_) % 16 != 0)
        return kTfLiteError;
    input_.data.int8 = standin_input(arena_);
    output_.data.int8 = const_cast<int8_t *>(standin_output(arena_));
    return kTfLiteOk;
}

TfLiteStatus MicroInterpreter::Invoke()
{
    standin_invoke(arena_);
    return kTfLiteOk;
}

} // namespace tflite
