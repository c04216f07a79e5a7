#ifndef TENSORFLOW_LITE_MICRO_MICRO_MUTABLE_OP_RESOLVER_H_
#define TENSORFLOW_LITE_MICRO_MICRO_MUTABLE_OP_RESOLVER_H_

#include "tensorflow/lite/micro/micro_interpreter.h"

namespace tflite {

template <unsigned int tOpCount>
class MicroMutableOpResolver : public MicroOpResolver {
public:
    TfLiteStatus AddAdd() { return add(); }
    TfLiteStatus AddArgMax() { return add(); }
    TfLiteStatus AddAveragePool2D() { return add(); }
    TfLiteStatus AddConcatenation() { return add(); }
    TfLiteStatus AddConv2D() { return add(); }
    TfLiteStatus AddDecode() { return add(); }
    TfLiteStatus AddDepthwiseConv2D() { return add(); }
    TfLiteStatus AddDequantize() { return add(); }
    TfLiteStatus AddFullyConnected() { return add(); }
    TfLiteStatus AddHardSwish() { return add(); }
    TfLiteStatus AddLeakyRelu() { return add(); }
    TfLiteStatus AddLogistic() { return add(); }
    TfLiteStatus AddMaxPool2D() { return add(); }
    TfLiteStatus AddMaximum() { return add(); }
    TfLiteStatus AddMean() { return add(); }
    TfLiteStatus AddMinimum() { return add(); }
    TfLiteStatus AddMul() { return add(); }
    TfLiteStatus AddPad() { return add(); }
    TfLiteStatus AddPadV2() { return add(); }
    TfLiteStatus AddQuantize() { return add(); }
    TfLiteStatus AddRelu() { return add(); }
    TfLiteStatus AddRelu6() { return add(); }
    TfLiteStatus AddReshape() { return add(); }
    TfLiteStatus AddSoftmax() { return add(); }
    TfLiteStatus AddStridedSlice() { return add(); }
    TfLiteStatus AddSub() { return add(); }
    TfLiteStatus AddTanh() { return add(); }
    TfLiteStatus AddTranspose() { return add(); }

private:
    TfLiteStatus add() { return count++ < tOpCount ? kTfLiteOk : kTfLiteError; }
};

} // namespace tflite

#endif
