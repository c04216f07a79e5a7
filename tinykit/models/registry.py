"""The table of model families. A new one costs a file with a `build` function and its options, and one line here."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tinykit.errors import ConfigError, ModelError
from tinykit.models import cnn, conv1d, ds_cnn, fc_autoencoder, mobilenet_v1, mobilenet_v2, resnet8, staged
from tinykit.options import Options, nearest, parse_options


class Build(Protocol):
    """`build(input_shape, classes, options) -> keras.Model`; its docstring gives layers, source and an example."""

    def __call__(self, input_shape: tuple[int, ...], classes: int, options: Any) -> Any: ...


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """One family of the registry."""

    build: Build
    options: type[Options]

    @property
    def doc(self) -> str:
        """Description with an `Example:`, from the docstring of `build`."""
        return self.build.__doc__ or ""


MODELS: dict[str, ModelEntry] = {
    "cnn": ModelEntry(cnn.build, cnn.CnnOptions),
    "conv1d": ModelEntry(conv1d.build, conv1d.Conv1dOptions),
    "ds_cnn": ModelEntry(ds_cnn.build, ds_cnn.DsCnnOptions),
    "fc_autoencoder": ModelEntry(fc_autoencoder.build, fc_autoencoder.FcAutoencoderOptions),
    "mobilenet_v1": ModelEntry(mobilenet_v1.build, mobilenet_v1.MobilenetV1Options),
    "mobilenet_v2": ModelEntry(mobilenet_v2.build, mobilenet_v2.MobilenetV2Options),
    "resnet8": ModelEntry(resnet8.build, resnet8.Resnet8Options),
    "staged": ModelEntry(staged.build, staged.StagedOptions),
}


def model_names() -> tuple[str, ...]:
    """Names that `build_model` takes, sorted."""
    return tuple(sorted(MODELS))


def model_options(name: str) -> type[Options]:
    """The pydantic model of a family's options.

    Raises:
        ConfigError: no such family; the message has the nearest match.
    """
    return _entry(name).options


def build_model(name: str, input_shape: Sequence[int], classes: int, options: Mapping[str, Any]) -> Any:
    """Builds an untrained functional Keras 3 model; its weights come from Keras's global seed.

    Args:
        name: one of `model_names()`.
        input_shape: of one preprocessed sample, without the batch.
        classes: number of classes, at least 1; `fc_autoencoder` does not use it.
        options: see the options of the family; unknown keys are refused.

    Returns:
        A keras.Model.

    Raises:
        ConfigError: unknown name or wrong options, every problem at once.
        ModelError: the family cannot be built for this input.
    """
    entry = _entry(name)
    parsed = parse_options(entry.options, options, f"model {name}")
    if classes < 1:
        raise ModelError(f"model {name}: expected 1 class or more, received {classes}")
    try:
        return entry.build(tuple(int(size) for size in input_shape), classes, parsed)
    except (ValueError, ZeroDivisionError) as error:
        raise ModelError(f"model {name}: cannot be built for input {list(input_shape)}: {error}") from error


def _entry(name: str) -> ModelEntry:
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}: {nearest(name, MODELS)}")
    return MODELS[name]
