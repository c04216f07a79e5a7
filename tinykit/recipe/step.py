"""The step protocol: a method of training or compression, Keras model in, Keras model out."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel

from tinykit.config.loading import ResolvedConfig, StepSpec
from tinykit.recipe.interrupt import StopFlag

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tinykit.data import Chain, Dataset


CHECKPOINT = "checkpoint"
"""Folder in a step's folder for what only a resume needs; the runner removes it once the step's DONE is written, not before: a kill between
the last epoch and DONE must not cost the training."""


@dataclass
class StepResult:
    """What a step hands back.

    Attributes:
        model: the model after the step; None: unchanged.
        report: plain values (JSON without NaN) about what was done.
    """

    model: "keras.Model | None"
    report: dict[str, Any] = field(default_factory=dict)


def _no_progress(done: int, total: int, **values: float) -> None:
    """Shows nothing."""


def _no_metrics(label: str, values: dict[str, float], step: int | None) -> None:
    """Stores nothing."""


def _no_log(message: str) -> None:
    """Says nothing."""


@dataclass
class StepContext:
    """What a step may use besides the model and its options.

    Attributes:
        dataset: the data, raw.
        chain: its preprocessing.
        config: the whole run's configuration.
        seed: for everything random in this step; the runner has seeded Keras with it.
        folder: this step's own folder; what lies there when the step starts is from an interrupted run of the same step. What only a
            resume needs belongs into its folder CHECKPOINT.
        label: the step's name in this run ('train', or 'train_2' for a second one).
        quicktest: True: do the least that exercises everything, such as one epoch.
        float_model: the model as it was after `train`, or as loaded; None before.
        log: prints one line.
        stop: whether the run was asked to stop.
    """

    dataset: "Dataset"
    chain: "Chain"
    config: ResolvedConfig
    seed: int
    folder: Path
    label: str = "step"
    quicktest: bool = False
    float_model: "keras.Model | None" = None
    log: Callable[[str], None] = _no_log
    stop: StopFlag = field(default_factory=StopFlag)
    show_progress: Callable[..., None] = _no_progress
    write_metrics: Callable[[str, dict[str, float], int | None], None] = _no_metrics
    make_batches: "Callable[..., tf.data.Dataset] | None" = None

    def progress(self, done: int, total: int, **values: float) -> None:
        """Shows that `done` of `total` units are done. A safe point: raises Terminated if the run was asked to stop."""
        self.stop.check()
        self.show_progress(done, total, **values)

    def metrics(self, step: int | None = None, **values: float) -> None:
        """Appends `values` to metrics.jsonl and to TensorBoard.

        Args:
            step: x axis for TensorBoard, such as the epoch; default: counted up.
        """
        self.write_metrics(self.label, values, step)

    def batches(
        self,
        split: str,
        *,
        shuffle: bool = False,
        augment: bool = False,
        batch_size: int | None = None,
        seed: int | None = None,
        first_epoch: int = 0,
        repeat: bool = False,
        cycle: int | None = None,
    ) -> "tf.data.Dataset":
        """Batches (x float32 [B, ...], y int64 [B]) of a split, preprocessed.

        Args:
            split: 'train', 'val' or 'test'.
            shuffle: in another order in each pass; reproducible.
            augment: with the configuration's augmentations.
            batch_size: default: the configuration's.
            seed: of the order and the augmentation; default: the step's.
            first_epoch: number of the first pass, so that a resumed training goes on with the order it would have had.
            repeat: never end.
            cycle: after so many passes the same batches come again; default: never.
        """
        make = self.make_batches or _data_batches
        return make(
            getattr(self.dataset, split),
            self.chain,
            batch_size=batch_size or self.config.config.data.batch_size,
            shuffle_seed=(self.seed if seed is None else seed) if shuffle else None,
            augment=self.config.config.data.augment if augment else (),
            first_epoch=first_epoch,
            repeat=repeat,
            cycle=cycle,
        )

    def before(self) -> tuple[str, ...]:
        """Names of the steps of the recipe that come before this one."""
        labels = [step.label for step in self.config.steps]
        end = labels.index(self.label) if self.label in labels else len(labels)
        return tuple(step.name for step in self.config.steps[:end])

    def promising(self, claim: str) -> "tuple[StepSpec, ...]":
        """The steps before this one that promise a claim of tinykit.recipe.claims."""
        from tinykit.recipe.registry import step_class

        earlier = self.config.steps[: len(self.before())]
        return tuple(step for step in earlier if claim in getattr(step_class(step.name), "promises", ()))

    def callbacks(self) -> "list[keras.callbacks.Callback]":
        """Keras callbacks that every `fit` of a step should use: a clean end at SIGTERM."""
        from tinykit.recipe.callbacks import StopCallback

        return [StopCallback(self)]


def _data_batches(split: Any, chain: Any, **options: Any) -> "tf.data.Dataset":
    from tinykit.data.pipeline import batches

    return batches(split, chain, **options)


class Step(Protocol):
    """One method, in one file of tinykit/steps, with one line in tinykit.recipe.registry.

    Attributes:
        name: as in recipes.
        Options: pydantic model of its options; unknown keys forbidden; every default lives there.
        saved_with: modules to import before a model that this step saved can be loaded (they register its classes).

    A step may also have a method `check(model)`, which the runner calls with the first model before any step works; it raises
    ModelError with every layer that the step cannot handle; and a method `check_task(model, options, context)`, called at the same time,
    which raises ModelError if the model does not suit the data. `makes_integers = True` says that what it hands back is an integer
    network, `needs_float = True` that it cannot start from one, `trains = True` that it gives a model with random weights sensible ones.
    `promises` and `keeps` name claims of tinykit.recipe.claims: what the step says about its model, and what it leaves true.

    Example:
        class Scale:
            '''Multiplies the weights by a factor. Example: {scale: {by: 0.5}}'''
            name = "scale"
            saved_with = ()

            class Options(BaseModel):
                model_config = ConfigDict(extra="forbid")
                by: float = Field(default=1.0, gt=0)

            def run(self, model, options, context):
                model.set_weights([options.by * w for w in model.get_weights()])
                context.log(f"multiplied {model.count_params()} weights by {options.by}")
                return StepResult(model, {"by": options.by})
    """

    name: ClassVar[str]
    Options: ClassVar[type[BaseModel]]
    saved_with: ClassVar[tuple[str, ...]]

    def run(self, model: "keras.Model", options: Any, context: StepContext) -> StepResult:
        """Does it.

        Args:
            model: the model so far; may be changed in place.
            options: an instance of `Options`.
            context: data, folder, logging.

        Raises:
            TinykitError: what the user can act on.
        """
        ...


class MetricsLog:
    """metrics.jsonl (one JSON object a line: time, step, values) and TensorBoard scalars.

    Each line is written with one system call; a line that a kill cut off is removed when the file is opened again.
    """

    def __init__(self, file: Path, tensorboard: Path | None = None) -> None:
        self._file = file
        self._tensorboard = tensorboard
        self._writer: Any = None
        self._count: dict[str, int] = {}
        if file.exists():
            content = file.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if whole != content:
                with file.open("r+b") as stream:
                    stream.truncate(len(whole))

    def write(self, label: str, values: dict[str, float], step: int | None = None) -> None:
        """Appends one line, and one scalar a value to TensorBoard."""
        plain = {key: _finite(value) for key, value in values.items()}
        record = {"time": round(time.time(), 3), "step": label, **plain}
        line = json.dumps(record, allow_nan=False) + "\n"
        handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)
        self._count[label] = self._count.get(label, -1) + 1 if step is None else step
        self._scalars(label, plain, self._count[label])

    def _scalars(self, label: str, values: dict[str, Any], step: int) -> None:
        if self._tensorboard is None:
            return
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self._tensorboard))
        with self._writer.as_default():
            for key, value in values.items():
                if isinstance(value, (int, float)):
                    tf.summary.scalar(f"{label}/{key}", value, step=step)
        self._writer.flush()

    def close(self) -> None:
        """Flushes and closes TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _finite(value: Any) -> Any:
    """A plain number; None for NaN and infinity, which JSON has not."""
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    number = float(value)
    return number if number - number == 0 else None
