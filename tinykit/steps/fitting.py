"""The training loop that every training step shares: schedule, checkpoints, resume, early stop."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tinykit import atomic
from tinykit.errors import ModelError
from tinykit.recipe.step import CHECKPOINT, StepContext

if TYPE_CHECKING:
    import keras

    from tinykit.steps.loop import Loop


class FitOptions(BaseModel):
    """Options of every step that trains."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    epochs: int = Field(default=20, ge=1, le=100_000, description="passes over the training split")
    learning_rate: float = Field(default=1e-3, gt=0, le=100, description="the highest of the schedule")
    schedule: Literal["cosine", "constant", "step"] = Field(
        default="cosine", description="after the warm-up: cosine to 0, constant, or a tenth at 1/2 and again at 3/4"
    )
    warmup_epochs: float = Field(default=0.0, ge=0, le=1000, description="linear rise from 0")
    loss: Literal["auto", "mse"] = Field(
        default="auto", description="mse: the input is the target; auto: mse where the data are for anomaly detection, else cross entropy"
    )
    batch_size: int | None = Field(default=None, ge=1, le=65536, description="null: data.batch_size")
    patience: int | None = Field(default=None, ge=1, description="stop after so many epochs without a better val value")
    keep: Literal["best", "last"] = Field(default="best", description="which epoch's weights, judged on val")


def learning_rate_at(step: int, steps: int, options: FitOptions) -> float:
    """The learning rate of one batch.

    Args:
        step: number of the batch since the beginning of training, from 0.
        steps: batches of the whole training.
        options: peak, schedule and warm-up.

    Returns:
        During the warm-up peak * (step + 1) / warm-up batches; then with t the done share of the rest, 0 to 1:
        peak * (1 + cos(pi t)) / 2, peak, or peak / 1, 10, 100 for t below 1/2, 3/4 and 1.
    """
    warmup = min(round(steps * options.warmup_epochs / options.epochs), steps)
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    if options.schedule == "cosine":
        return options.learning_rate * (1 + math.cos(math.pi * share)) / 2
    if options.schedule == "step":
        return options.learning_rate * (1.0 if share < 0.5 else 0.1 if share < 0.75 else 0.01)
    return options.learning_rate


class Checkpoint:
    """What an interrupted training goes on with: state.json names the weights (with the optimizer's) of the last epoch.

    Weights are written under a new name first, then state.json is replaced, then old weights are deleted: a kill at any
    moment leaves a state whose files exist.

    Attributes:
        epoch: finished epochs.
        best: score of the best epoch so far, None before the first; compared in order, higher is better.
        best_epoch: the epoch it belongs to, from 0.
        waited: epochs since then.
        values: what the last finished epoch reported.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "state.json"
        self.epoch = 0
        self.best: list[float] | None = None
        self.best_epoch: int | None = None
        self.waited = 0
        self.values: dict[str, float] = {}

    def resume(self, model: "keras.Model") -> bool:
        """Restores weights and optimizer, if there is a state. Returns whether there was.

        Raises:
            ModelError: a file of it is damaged or gone.
        """
        try:
            state = json.loads(self._file.read_text(encoding="utf-8"))
            model_file = self._folder / f"last-{state['epoch']:05d}.weights.h5"
            values = [state[key] for key in ("epoch", "best", "best_epoch", "waited", "values")]
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(self._file, error) from error
        model.optimizer.build(model.trainable_variables)
        try:
            model.load_weights(model_file)
        except (OSError, ValueError, KeyError) as error:
            raise self._damaged(model_file, error) from error
        self.epoch, self.best, self.best_epoch, self.waited, self.values = values
        return True

    def _damaged(self, file: Path, error: Exception) -> ModelError:
        return ModelError(f"{file}: cannot be read: {error}; delete {self._folder} to run the step from its beginning")

    def save(self, model: "keras.Model", epoch: int, value: list[float], keep_best: bool, values: dict[str, float] | None = None) -> None:
        """Stores the state after `epoch` (from 0) with the score `value`, such as [accuracy, -loss] on val, and what the epoch reported."""
        better = self.best is None or value > self.best
        if better:
            self.best, self.best_epoch, self.waited = value, epoch, 0
        else:
            self.waited += 1
        self.epoch = epoch + 1
        names = [f"last-{self.epoch:05d}.weights.h5"]
        if keep_best and self.best_epoch is not None:
            names.append(f"best-{self.best_epoch:05d}.weights.h5")
        for name in names:
            if not (self._folder / name).exists() or (better and name.startswith("best")) or name.startswith("last"):
                with atomic.replacing(self._folder / name) as temporary:
                    model.save_weights(temporary)
        self.values = dict(values or {})
        state = {
            "epoch": self.epoch, "best": self.best, "best_epoch": self.best_epoch, "waited": self.waited, "values": self.values,
        }  # fmt: skip
        atomic.write_json(self._file, state)
        for file in self._folder.glob("*.weights.h5"):
            if file.name not in names:
                file.unlink(missing_ok=True)

    def load_best(self, model: "keras.Model") -> None:
        """Puts the best epoch's weights into `model`, if one was kept."""
        if self.best_epoch is not None:
            model.load_weights(self._folder / f"best-{self.best_epoch:05d}.weights.h5")


def reseed(model: "keras.Model", seed: int, epoch: int) -> None:
    """Starts the random layers of `model` (dropout) from (seed, layer, epoch), because Keras does not save their state.

    A training that is resumed at an epoch then draws what an uninterrupted one would have drawn.
    """
    import keras

    generators = [
        value
        for layer in model._flatten_layers(include_self=False)
        for value in vars(layer).values()
        if isinstance(value, keras.random.SeedGenerator)
    ]
    for number, generator in enumerate(generators):
        generator.state.assign([(seed + 7919 * number) % 2**32, (epoch << 20) % 2**32])


def rebuilds(options: FitOptions, context: StepContext) -> bool:
    """Whether the target is the input and the loss the mean squared error of real values: an autoencoder."""
    return options.loss == "mse" or context.dataset.task == "anomaly"


def check_task(model: "keras.Model", options: FitOptions, context: StepContext) -> None:
    """Raises ModelError if the loss cannot compare the model's output with the data's classes, or (mse) with its own input."""
    shape, classes = model.output_shape, len(context.dataset.class_names)
    received = list(shape[1:]) if isinstance(shape, tuple) else [list(each[1:]) for each in shape]
    if rebuilds(options, context):
        wanted = list(context.chain.output_shape(context.dataset.input_shape))
        if received != wanted:
            raise ModelError(
                f"step {context.label}: loss mse compares the output with the input: expected an output of shape {wanted}, got {received}"
            )
        return
    encoder = classes < 2 or received == list(context.chain.output_shape(context.dataset.input_shape))
    hint = f"; an autoencoder wants steps.{context.label}.loss=mse" if encoder else ""
    if received != [classes]:
        raise ModelError(
            f"step {context.label}: the data have {classes} classes: expected a model with an output of shape [{classes}], "
            f"got {received}{hint}"
        )
    if classes < 2:
        raise ModelError(f"step {context.label}: the data have one class, {context.dataset.class_names[0]!r}: nothing to tell apart{hint}")


def uncompiled(model: "keras.Model") -> "keras.Model":
    """The same network without optimizer and loss, so that its file holds the network alone."""
    clean = type(model).from_config(model.get_config())
    clean.set_weights(model.get_weights())
    return clean


def batches_of(options: FitOptions, context: StepContext) -> tuple[int, int]:
    """(samples in a batch, batches in an epoch) of a training; the last batch may have fewer."""
    size = options.batch_size or context.config.config.data.batch_size
    return size, math.ceil(len(context.dataset.train) / size)


def fit(
    model: "keras.Model", options: FitOptions, context: StepContext, callbacks: Sequence[Any] = (), cycle: int | None = None
) -> dict[str, Any]:
    """Trains a compiled model, from where an interrupted run of the same step stopped.

    Args:
        callbacks: more Keras callbacks; they go by the epoch's number, as a resumed training does not begin with the first.
        cycle: epochs after which the same batches come again, and what is drawn within the model; None: never.

    Bit for bit the same in two runs with one seed on one machine, also when interrupted and resumed.

    Returns:
        epochs, kept_epoch and the last epoch's values.

    Raises:
        ModelError: the loss became NaN.
        Terminated: SIGTERM; goes on after the last finished epoch when run again.
    """
    options = options.model_copy(update={"epochs": 1}) if context.quicktest else options
    checkpoint = Checkpoint(context.folder / CHECKPOINT)
    if checkpoint.resume(model):
        context.log(f"goes on after epoch {checkpoint.epoch}/{options.epochs}")
    _run_epochs(model, options, context, checkpoint, callbacks, cycle)
    if options.keep == "best":
        checkpoint.load_best(model)
    kept = checkpoint.best_epoch if options.keep == "best" and checkpoint.best_epoch is not None else checkpoint.epoch - 1
    context.log(f"kept the weights of epoch {kept + 1}/{checkpoint.epoch}")
    return {"epochs": checkpoint.epoch, "kept_epoch": kept + 1, "last_epoch": checkpoint.values}


def _run_epochs(
    model: "keras.Model",
    options: FitOptions,
    context: StepContext,
    checkpoint: Checkpoint,
    callbacks: Sequence[Any],
    cycle: int | None,
) -> None:
    """Trains from the checkpoint's epoch on."""
    from tinykit.steps.norms import fused_norms

    if _finished(options, checkpoint):
        return
    # repeat and explicit steps: without them Keras 3.15 makes two iterators an epoch, and the order of a resumed run would differ.
    batch_size, steps = batches_of(options, context)
    train = context.batches(
        "train", shuffle=True, augment=True, first_epoch=checkpoint.epoch, batch_size=batch_size, repeat=True, cycle=cycle
    )
    val = context.batches("val", batch_size=batch_size) if len(context.dataset.val) else None
    if rebuilds(options, context):
        train = train.map(lambda x, y: (x, x))
        val = val.map(lambda x, y: (x, x)) if val is not None else None
    _make_variables(model, options, context)
    with fused_norms([model]), _loop(model, options, context, steps, callbacks) as loop:
        model.fit(
            train,
            validation_data=val,
            steps_per_epoch=steps,
            initial_epoch=checkpoint.epoch,
            epochs=options.epochs,
            verbose=0,
            shuffle=False,
            callbacks=[*context.callbacks(), *callbacks, _epoch_callback(options, context, checkpoint, loop, cycle)],
        )


def _loop(model: "keras.Model", options: FitOptions, context: StepContext, steps: int, callbacks: Sequence[Any]) -> "Loop":
    from tinykit.steps.loop import Loop

    total = options.epochs * steps
    return Loop(model, lambda number: learning_rate_at(number, total, options), steps, context.progress, callbacks)


def _make_variables(model: "keras.Model", options: FitOptions, context: StepContext) -> None:
    """Those of the optimizer and of the metrics: where they are made while the training step is traced, TensorFlow traces it twice."""
    import keras

    model.optimizer.build(model.trainable_variables)
    own = rebuilds(options, context)
    shape = context.chain.output_shape(context.dataset.input_shape) if own else (len(context.dataset.class_names),)
    outputs = keras.ops.zeros((1, *shape))
    model.compute_metrics(None, outputs if own else keras.ops.zeros((1,), dtype="int64"), outputs)
    model.reset_metrics()


def _finished(options: FitOptions, checkpoint: Checkpoint) -> bool:
    patience = options.patience is not None and checkpoint.waited >= options.patience
    return checkpoint.epoch >= options.epochs or patience


def _judged(values: dict[str, float]) -> list[float]:
    """What makes one epoch better than another: accuracy, then a lower loss; on val, or on train where there is no val."""
    prefix = "val_" if "val_loss" in values else ""
    accuracy = [values[f"{prefix}accuracy"]] if f"{prefix}accuracy" in values else []
    return [*accuracy, -values[f"{prefix}loss"]]


def _epoch_callback(options: FitOptions, context: StepContext, checkpoint: Checkpoint, loop: "Loop", cycle: int | None) -> Any:
    """A Keras callback: tells the loop the epoch; after each epoch a line, metrics, checkpoint and early stop."""
    import keras

    class EpochCallback(keras.callbacks.Callback):
        """See `_epoch_callback`."""

        def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            """Starts the loop and dropout from it."""
            loop.begin(epoch)
            reseed(self.model, context.seed, epoch % cycle if cycle else epoch)

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            """Reports, stores, and stops early if wished."""
            values = {key: float(value) for key, value in (logs or {}).items()}
            wrong = [key for key, value in values.items() if not math.isfinite(value)]
            if wrong:
                name = "loss" if "loss" in wrong else wrong[0]
                raise ModelError(
                    f"{context.label}: the {name} is {values[name]} in epoch {epoch + 1}; training diverged:"
                    f" lower steps.{context.label}.learning_rate (now {options.learning_rate}) or add warmup_epochs"
                )
            shown = "  ".join(f"{key} {value:.4f}" for key, value in values.items())
            context.log(f"epoch {epoch + 1}/{options.epochs}  {shown}")
            context.metrics(step=epoch, epoch=epoch + 1, **values)
            checkpoint.save(self.model, epoch, _judged(values), options.keep == "best", values)
            if _finished(options, checkpoint) and epoch + 1 < options.epochs:
                context.log(f"stops: no better on val for {checkpoint.waited} epochs")
                self.model.stop_training = True

    return EpochCallback()
