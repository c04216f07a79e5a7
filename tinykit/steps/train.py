"""Float training."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from tinykit.recipe.step import StepContext, StepResult
from tinykit.steps.fitting import FitOptions, check_task, fit, rebuilds, uncompiled
from tinykit.steps.integers import check_float

if TYPE_CHECKING:
    import keras


class FloatOptions(FitOptions):
    """Options of every step that trains a float network."""

    optimizer: Literal["adam", "sgd", "adamw"] = Field(default="adam", description="sgd has Nesterov momentum 0.9")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="decoupled; batch norm and biases excluded")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the target spread over all classes")


class TrainOptions(FloatOptions):
    """Options of `train`."""

    when: Literal["scratch", "always"] = Field(default="scratch", description="scratch: skipped where model.path gives trained weights")


def ends_in_softmax(model: "keras.Model") -> bool:
    """Whether the model's output is probabilities (its last operation is a softmax) and not logits."""
    import keras

    last = model.outputs[0]._keras_history.operation
    if isinstance(last, keras.layers.Softmax):
        return True
    return getattr(last, "activation", None) is keras.activations.softmax


class Train:
    """Trains the float network with the configuration's data and augmentation.

    Example: {train: {epochs: 40, learning_rate: 0.002, label_smoothing: 0.1}}

    Bit for bit the same in two runs with one seed on one machine, also when interrupted and resumed.
    """

    name: ClassVar[str] = "train"
    Options: ClassVar[type[TrainOptions]] = TrainOptions
    saved_with: ClassVar[tuple[str, ...]] = ()
    needs_float: ClassVar[bool] = True

    def check_task(self, model: "keras.Model", options: TrainOptions, context: StepContext) -> None:
        """Raises ModelError if the model's output does not suit the data; called before any step runs."""
        if self._skipped(options, context):
            return
        check_float(model)
        check_task(model, options, context)

    def run(self, model: "keras.Model", options: TrainOptions, context: StepContext) -> StepResult:
        """See tinykit.recipe.step.Step.

        Raises:
            ModelError: the loss became NaN.
            Terminated: SIGTERM; goes on after the last finished epoch when run again.
        """
        if self._skipped(options, context):
            context.log("skipped: model.path gives trained weights (train anyway: steps.train.when=always)")
            return StepResult(None, {"skipped": "model.path gives trained weights"})
        compile_float(model, options, context)
        report = {"parameters": model.count_params(), **fit(model, options, context)}
        return StepResult(uncompiled(model), report)

    @staticmethod
    def _skipped(options: TrainOptions, context: StepContext) -> bool:
        return context.config.config.model.path is not None and options.when == "scratch"


def compile_float(model: "keras.Model", options: FloatOptions, context: StepContext) -> None:
    """Compiles a float model with optimizer, loss and metrics."""
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
    if rebuilds(options, context):
        model.compile(optimizer, "mse", jit_compile=False)
        return
    logits = not ends_in_softmax(model)
    if options.label_smoothing:
        loss = _smoothed(len(context.dataset.class_names), options.label_smoothing, logits)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)


def _smoothed(classes: int, smoothing: float, logits: bool) -> Any:
    """Cross entropy with label smoothing, for integer labels."""
    import keras

    def loss(y: Any, predicted: Any) -> Any:
        target = keras.ops.one_hot(keras.ops.reshape(y, (-1,)), classes, dtype=predicted.dtype)
        return keras.losses.categorical_crossentropy(target, predicted, from_logits=logits, label_smoothing=smoothing)

    return loss
