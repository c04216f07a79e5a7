"""Teachers of a run: the float model so far, files, run directories, and models that are trained for it; what is compared with them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tinykit.errors import ConfigError, ModelError, TinykitError, collected
from tinykit.recipe.registry import step_class
from tinykit.recipe.step import CHECKPOINT, StepContext
from tinykit.steps.fitting import batches_of, check_task, fit, rebuilds
from tinykit.steps.floats import FloatOptions, compile_float, ends_in_softmax
from tinykit.steps.integers import check_float

if TYPE_CHECKING:
    import keras

    from tinykit.shrink.answers import Answers
    from tinykit.shrink.distilled import Distilled

MOST_TEACHERS = 16


class TrainedTeacher(BaseModel):
    """A teacher that the step trains first, on the same data."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    name: str = Field(description="a model family")
    options: dict[str, Any] = Field(default={}, description="of the family, such as {filters: [32, 64, 128]}")
    epochs: int = Field(default=20, ge=1, le=100_000, description="passes over the training split")
    learning_rate: float = Field(default=1e-3, gt=0, le=100, description="of Adam, the highest of a cosine schedule")


class TeacherOptions(BaseModel):
    """Who teaches."""

    teacher: list[str | TrainedTeacher] = Field(
        default=[],
        max_length=MOST_TEACHERS,
        description="model files, run directories, or {name, options, epochs, learning_rate} to train first; several: the mean of their "
        "logits; none: the float model as `train` left it",
    )


class TaughtOptions(TeacherOptions):
    """How a float network is taught."""

    distill: float = Field(default=0.7, ge=0, le=1, description="share of the loss that compares with the teacher's logits; 0: no teacher")
    temperature: float = Field(default=4.0, gt=0, le=100, description="of the distillation")
    transfer: Literal["attention", "hint"] | None = Field(
        default=None,
        description="also compare inner tensors of equal resolution with the (first) teacher's: where their energy lies (attention), or "
        "their values behind a learned projection (hint)",
    )
    transfer_weight: float = Field(default=1.0, ge=0, le=1e6, description="of that comparison, beside the rest of the loss")
    mix: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="most share of another sample in each one while a teacher teaches; 0.5 for long trainings on few samples",
    )
    repeat_after: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="epochs after which the same changed samples come again, and the teacher's answers to them are known: 16 in trainings "
        "of many epochs; null: every epoch has samples of its own, and the teacher looks at them all",
    )

    @model_validator(mode="after")
    def _answers_alone(self) -> TaughtOptions:
        if self.repeat_after is not None and self.transfer is not None:
            raise ValueError("repeat_after remembers the teacher's logits and no inner tensors: leave out transfer or repeat_after")
        return self

    @property
    def taught(self) -> bool:
        """Whether there is a teacher at all."""
        return self.distill > 0 or (self.transfer is not None and self.transfer_weight > 0)


class TaughtFloatOptions(FloatOptions, TaughtOptions):
    """Options of steps that train a float network with a teacher."""

    @property
    def longest(self) -> int:
        """Epochs of the longest of the trainings that the step consists of; 0: it does not train."""
        return self.epochs


def check_teachers(model: keras.Model, options: TeacherOptions, context: StepContext) -> None:
    """What can be told before anything is trained.

    Raises:
        ModelError: a teacher that cannot be read, gives something else than the model, or takes other inputs; answers that would take
            too much memory; every problem at once.
    """
    problems: list[str] = []
    for number, entry in enumerate(options.teacher, 1):
        with collected(TinykitError, problems, f"step {context.label}: teacher {number}: "):
            teacher = _loaded(entry, context)
            if teacher.output_shape[1:] != model.output_shape[1:]:
                raise ModelError(
                    f"{_shown(entry)} gives an output of shape {list(teacher.output_shape[1:])}, "
                    f"the model one of {list(model.output_shape[1:])}: both must score the same classes"
                )
            if number == 1 and getattr(options, "transfer", None):
                _pairs(model, teacher, context)
    if isinstance(options, TaughtFloatOptions):
        with collected(TinykitError, problems):
            _remembered(model, options, context, options.longest)
    if problems:
        raise ModelError(problems)


def _shown(entry: str | TrainedTeacher) -> str:
    return entry if isinstance(entry, str) else f"{entry.name}, trained first"


def _loaded(entry: str | TrainedTeacher, context: StepContext) -> keras.Model:
    """A teacher from its file, or built without training."""
    if isinstance(entry, TrainedTeacher):
        from tinykit.models.registry import build_model

        shape = context.chain.output_shape(context.dataset.train.x.shape[1:])
        return build_model(entry.name, shape, len(context.dataset.class_names), entry.options)
    path = Path(os.path.expanduser(entry))
    return _from_run(path, context) if (path / "config.resolved.yaml").is_file() else _from_file(path, context)


def _from_file(path: Path, context: StepContext) -> keras.Model:
    """A user's model, on the samples as this run preprocesses them."""
    from tinykit.data.preprocess import Chain
    from tinykit.models.load import check_input
    from tinykit.recipe.imported import absorb

    model = _float_file(path)
    declared = Chain.parse(context.config.config.data.preprocess, "data.preprocess")
    check_input(model, declared.output_shape(context.dataset.train.x.shape[1:]))
    rest, chain, _ = absorb(model, context.dataset, declared)
    if chain == context.chain:
        return rest
    if declared == context.chain:
        return model
    raise ModelError(
        f"{path}: the teacher begins with other scaling than the model, whose own has become part of the preprocessing; save one of them "
        "without its Rescaling or Normalization layers"
    )


def _float_file(path: Path) -> keras.Model:
    """A model that can teach. Raises ModelError for integer networks and for several inputs or outputs."""
    from tinykit.models.load import load_model

    model = load_model(path)
    try:
        check_float(model)
    except ModelError as error:
        raise ModelError(f"{path}: as a teacher: {error}") from error
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(f"{path}: a teacher has one input and one output, this one {len(model.inputs)} and {len(model.outputs)}")
    return model


def _from_run(folder: Path, context: StepContext) -> keras.Model:
    """The last float model of a run directory."""
    from tinykit.config.loading import read_document
    from tinykit.data.preprocess import Chain
    from tinykit.models.load import check_input
    from tinykit.recipe.registry import STEPS, step_class

    content = read_document(folder / "config.resolved.yaml").data
    data = content.get("data") if isinstance(content, dict) else None
    taught, own = data.get("name") if isinstance(data, dict) else None, context.config.config.data.name
    if taught is not None and taught != own:
        raise ConfigError(f"{folder}: the teacher was trained on data {taught!r}, this run is on {own!r}: both must score the same classes")
    declared = Chain.parse(data.get("preprocess", []) if isinstance(data, dict) else [], f"{folder}/config.resolved.yaml: data.preprocess")
    if declared != Chain.parse(context.config.config.data.preprocess, "data.preprocess"):
        raise ConfigError(f"{folder}: the teacher was trained with another data.preprocess; both must see the same samples")
    for report in sorted(folder.glob("steps/*/report.json"), reverse=True):
        try:
            step = json.loads(report.read_text(encoding="utf-8"))["step"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not finished
        file = report.with_name("model.keras")
        if step in STEPS and not getattr(step_class(step), "makes_integers", False) and file.is_file():
            model = _float_file(file)
            check_input(model, context.chain.output_shape(context.dataset.train.x.shape[1:]))
            return model
    raise ModelError(f"{folder}: a run directory without a finished float step; name a model file instead")


def check_shrinking(model: keras.Model, options: TaughtFloatOptions, context: StepContext, plan: Callable[[], object]) -> None:
    """What a step that takes something out of a trained network, and trains what is left, can be told before any step runs.

    Args:
        plan: what the step will do; raises where that cannot be done.

    Raises:
        ModelError: the model is none of floats, or untrained; model, data and teachers do not suit each other.
        TinykitError: of `plan`, where all else is well.
    """
    check_float(model)
    check_trained(context)
    problems: list[str] = []
    if options.longest:
        for check in (check_task, check_teachers):
            with collected(TinykitError, problems):
                check(model, options, context)
    if not problems:
        plan()
        return
    with collected(TinykitError, problems):
        plan()
    raise ModelError(problems)


def check_trained(context: StepContext) -> None:
    """Raises ModelError where the step begins with random weights, whose magnitudes say nothing."""
    if context.config.config.model.path is None and not any(getattr(step_class(name), "trains", False) for name in context.before()):
        raise ModelError(
            f"step {context.label}: the model has random weights, which do not say what matters: put `train` or `distill` before it, "
            "or give model.path"
        )


def teacher_models(options: TeacherOptions, context: StepContext, model: keras.Model) -> list[tuple[keras.Model, bool]]:
    """The teachers, those that are trained for the step trained; each with whether its outputs are probabilities.

    Args:
        model: what the step was given: the teacher where the options name none and there was no float model before.

    Raises:
        ModelError: see `check_teachers`; the training of a teacher diverged.
        Terminated: SIGTERM; an interrupted training of a teacher goes on where it was.
    """
    if not options.teacher:
        default = context.float_model if context.float_model is not None else model
        return [(default, ends_in_softmax(default))]
    found = []
    for number, entry in enumerate(options.teacher, 1):
        model = _loaded(entry, context)
        if isinstance(entry, TrainedTeacher):
            _train(model, entry, number, context)
        found.append((model, ends_in_softmax(model)))
    return found


def needed_teachers(options: TaughtFloatOptions, context: StepContext, model: keras.Model) -> list[tuple[keras.Model, bool]]:
    """`teacher_models`, and none where the step does not train or nobody teaches, so that no teacher is trained for nothing."""
    return teacher_models(options, context, model) if options.taught and options.longest else []


def _train(model: keras.Model, entry: TrainedTeacher, number: int, context: StepContext) -> None:
    context.log(f"trains teacher {number}: {entry.name}, {model.count_params():,} parameters")
    rebuilt = any(step.options.get("loss") == "mse" for step in context.config.steps)
    options = FloatOptions(epochs=entry.epochs, learning_rate=entry.learning_rate, loss="mse" if rebuilt else "auto")
    compile_float(model, options, context, ends_in_softmax(model))
    fit(model, options, replace(context, folder=context.folder / CHECKPOINT / f"teacher_{number}"))


def fit_taught(
    student: keras.Model,
    options: TaughtFloatOptions,
    context: StepContext,
    teachers: Sequence[tuple[keras.Model, bool]],
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Trains a float model in place, by its teachers where there are any; see `tinykit.steps.fitting.fit`."""
    from tinykit.steps.norms import fused_norms

    trained, networks = student, []
    if teachers:
        trained = _taught(student, options, context, teachers)
        networks = trained.teacher.networks
    compile_float(trained, options, context, ends_in_softmax(student))
    with fused_norms(networks):
        return fit(trained, options, context, callbacks, options.repeat_after if teachers else None)


def _taught(
    student: keras.Model, options: TaughtFloatOptions, context: StepContext, teachers: Sequence[tuple[keras.Model, bool]]
) -> Distilled:
    """What is trained in the student's place; its weights are the student's, and those of hints."""
    from tinykit.shrink.distilled import Distilled, Lesson, Teacher

    regression = rebuilds(options, context)
    lesson = Lesson(options.distill, options.temperature, options.transfer, options.transfer_weight, regression, options.mix)
    pairs = _pairs(student, teachers[0][0], context) if options.transfer else []
    teacher = Teacher(teachers, [theirs for _, theirs in pairs])
    inner = [(own, int(theirs.shape[-1])) for own, theirs in pairs]
    return Distilled(student, ends_in_softmax(student), teacher, lesson, inner, _answers(student, options, context))


def _answers(student: keras.Model, options: TaughtFloatOptions, context: StepContext) -> Answers | None:
    """Where logits are remembered, if any come again."""
    from tinykit.shrink.answers import Answers

    remembered = _remembered(student, options, context, options.epochs)
    return Answers(*remembered) if remembered and not context.quicktest else None


def _remembered(
    student: keras.Model, options: TaughtFloatOptions, context: StepContext, epochs: int
) -> tuple[int, int, tuple[int, ...]] | None:
    """(batches, their size, shape of an answer) that a training remembers; None: nothing. Raises ModelError where that is too much."""
    from tinykit.shrink.answers import MOST_BYTES, answer_bytes

    if options.repeat_after is None or options.repeat_after >= epochs:
        return None
    size, batches = batches_of(options, context)
    found = options.repeat_after * batches, size, tuple(student.output_shape[1:])
    taken = answer_bytes(*found)
    if taken > MOST_BYTES:
        most = options.repeat_after * MOST_BYTES // taken
        raise ModelError(
            f"step {context.label}: the teacher's answers of {options.repeat_after} epochs would take {taken / 2**20:,.0f} MiB, "
            f"{MOST_BYTES / 2**20:,.0f} MiB are the most: {f'lower repeat_after to {most}, or ' if most else ''}leave repeat_after out"
        )
    return found


def _pairs(student: keras.Model, teacher: keras.Model, context: StepContext) -> list[tuple[Any, Any]]:
    """Tensors of equal resolution, the last of each resolution in either model."""
    from tinykit.shrink.distilled import stage_ends

    own, theirs = stage_ends(student), stage_ends(teacher)
    shared = [(own[resolution], theirs[resolution]) for resolution in own if resolution in theirs]
    if not shared:
        raise ModelError(
            f"step {context.label}: transfer: no tensor of the model has a resolution that one of the teacher's has: "
            f"{sorted(own)} and {sorted(theirs)}; leave `transfer` out"
        )
    return shared


def logits_teacher(options: TeacherOptions, context: StepContext, model: keras.Model) -> Callable[[Any], Any]:
    """x -> logits of the teachers as one; see `teacher_models`."""
    from tinykit.shrink.distilled import Teacher

    return Teacher(teacher_models(options, context, model)).logits
