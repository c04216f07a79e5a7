"""A quantised Keras model as an integer graph."""

from __future__ import annotations

import numpy as np

from tinykit.graph import ir
from tinykit.quant.model import QuantizedModel
from tinykit.quant.quantizer import TensorQuantizer


def lower(model: QuantizedModel, name: str | None = None) -> ir.Graph:
    """The integer graph of a quantised model: the same integers, op for op and tensor for tensor (tensor names are node names)."""
    source = _tensor("input", model.sample_shape, model.quantizers[model.input_quantizer])
    tensors, ops = {"input": source}, []
    for spec, layer in zip(model.specs, model.nodes):
        output = _tensor(spec["name"], tuple(spec["output_shape"]), model.quantizers[spec["quantizer"]])
        ops.append(layer.lower([tensors[i] for i in spec["inputs"]], output))
        tensors[output.name] = output
    graph = ir.Graph(tensors, ops, ("input",), (model.output_node,), name=name or model.name)
    graph.validate()
    return graph


def _tensor(name: str, shape: tuple[int, ...], quantizer: TensorQuantizer) -> ir.Tensor:
    scale = float(np.asarray(quantizer.scale(), np.float32))
    zero = int(round(float(np.asarray(quantizer.zero_point))))
    return ir.Tensor(name, tuple(shape), scale, zero, quantizer.bits, quantizer.low)
