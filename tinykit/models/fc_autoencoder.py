"""The fully connected autoencoder of MLPerf Tiny's anomaly detection."""

from typing import Any

import pydantic

from tinykit.models.blocks import check_rank, normalise_relu
from tinykit.options import Options


class FcAutoencoderOptions(Options):
    """Options of `fc_autoencoder`.

    Attributes:
        hidden: units of the hidden layers on each side.
        depth: number of hidden layers on each side.
        bottleneck: units of the layer in the middle.
    """

    hidden: pydantic.PositiveInt = 128
    depth: pydantic.PositiveInt = 4
    bottleneck: pydantic.PositiveInt = 8


def build(input_shape: tuple[int, ...], classes: int, options: FcAutoencoderOptions) -> Any:
    """Dense layers with batch normalisation and ReLU, and a linear layer as wide as the input; 264,192 MACs for 640 inputs.

    Input [features]; the output has the same shape; the number of classes is not used. Hidden layers 128 x 4, 8, 128 x 4 with
    biases. Source: MLPerf Tiny, arXiv:2106.07597, after the baseline of DCASE 2020 Task 2, arXiv:2006.05822.

    Example:
        model: {name: fc_autoencoder, options: {hidden: 128, depth: 4, bottleneck: 8}}
    """
    import keras

    (features,) = check_rank("fc_autoencoder", input_shape, "features")
    inputs = x = keras.Input((features,), name="input")
    side = [options.hidden] * options.depth
    for units in [*side, options.bottleneck, *side]:
        x = normalise_relu(keras.layers.Dense(units)(x))
    return keras.Model(inputs, keras.layers.Dense(features, name="reconstruction")(x), name="fc_autoencoder")
