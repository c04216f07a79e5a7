"""What steps that train a float network share: options, optimizer, loss."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tinykit.recipe.step import StepContext
from tinykit.steps.fitting import FitOptions, rebuilds

if TYPE_CHECKING:
    import keras


class FloatOptions(FitOptions):
    """Options of every step that trains a float network."""

    optimizer: Literal["adam", "sgd", "adamw"] = Field(default="adam", description="sgd has Nesterov momentum 0.9")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="decoupled; batch norm and biases excluded")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the target spread over all classes")


def ends_in_softmax(model: "keras.Model") -> bool:
    """Whether the model's output is probabilities (its last operation is a softmax) and not logits."""
    import keras

    last = model.outputs[0]._keras_history.operation
    if isinstance(last, keras.layers.Softmax):
        return True
    return getattr(last, "activation", None) is keras.activations.softmax


def compile_float(model: "keras.Model", options: FloatOptions, context: StepContext, probabilities: bool) -> None:
    """Compiles a model with optimizer, loss and metrics.

    Args:
        probabilities: whether its output is probabilities and not logits.
    """
    model.compile(_optimizer(options), float_loss(options, context, probabilities), jit_compile=False, **_metrics(options, context))


def float_loss(options: FloatOptions, context: StepContext, probabilities: bool) -> Any:
    """The loss, (targets, outputs) -> values: mean squared error for an autoencoder, else cross entropy."""
    import keras

    if rebuilds(options, context):
        return keras.losses.MeanSquaredError()
    if options.label_smoothing:
        return _smoothed(len(context.dataset.class_names), options.label_smoothing, not probabilities)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=not probabilities)


def _metrics(options: FloatOptions, context: StepContext) -> dict[str, Any]:
    return {} if rebuilds(options, context) else {"metrics": ["accuracy"]}


def _optimizer(options: FloatOptions) -> Any:
    import keras

    settings: dict[str, Any] = {"learning_rate": options.learning_rate}
    if options.weight_decay:
        settings["weight_decay"] = options.weight_decay
    if options.optimizer == "sgd":
        settings |= {"momentum": 0.9, "nesterov": True}
    kinds = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD, "adamw": keras.optimizers.AdamW}
    optimizer = kinds[options.optimizer](**settings)
    if options.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _smoothed(classes: int, smoothing: float, logits: bool) -> Any:
    """Cross entropy with label smoothing, for integer labels."""
    import keras

    def loss(y: Any, predicted: Any) -> Any:
        target = keras.ops.one_hot(keras.ops.reshape(y, (-1,)), classes, dtype=predicted.dtype)
        return keras.losses.categorical_crossentropy(target, predicted, from_logits=logits, label_smoothing=smoothing)

    return loss
