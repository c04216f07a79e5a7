"""Small spaces of every kind, data for them, and a count of architectures that shares nothing with tinykit.search.costs."""

import numpy as np

from tinykit.config.loading import load_config
from tinykit.config.search import StageSpace
from tinykit.data.dataset import Dataset, Split
from tinykit.data.preprocess import Chain
from tinykit.recipe.step import StepContext
from tinykit.search.space import Architecture, Space


def stage(blocks, least, most, *, expanded=None, **more):
    step = more.pop("step", 4)
    widths = {"least": least, "most": most, "step": step}
    if expanded is not None:
        more["expanded"] = {"least": expanded[0], "most": expanded[1], "step": 8}
    return StageSpace.model_validate({"blocks": blocks, "filters": widths, **more})


def image_space():
    return Space(
        [
            stage(["conv"], 4, 12, kernels=[3]),
            stage(["conv", "separable", "inverted"], 8, 16, expanded=(8, 24), kernels=[3, 5], stride=2, repeats={"least": 1, "most": 2}),
            stage(["inverted"], 8, 12, expanded=(16, 24), repeats={"least": 1, "most": 3}, stride=2),
        ],
        (13, 10, 3), 5,
    )  # fmt: skip


def audio_space():
    return Space(
        [
            stage(["conv"], 4, 12, kernels=[[5, 4]], stride=[2, 1]),
            stage(["separable"], 4, 12, kernels=[3, [5, 3]], repeats={"least": 1, "most": 3}),
        ],
        (17, 6, 1), 4,
    )  # fmt: skip


def series_space():
    return Space(
        [
            stage(["conv"], 4, 12, kernels=[3, 5, 7], stride=2),
            stage(["conv", "separable"], 4, 8, kernels=[3], stride=2, repeats={"least": 1, "most": 2}),
        ],
        (31, 6), 3,
    )  # fmt: skip


SPACES = {"image": image_space, "audio": audio_space, "series": series_space}


def recount(space: Space, architecture: Architecture, bits: int) -> dict[str, int]:
    """Costs of an architecture, layer by layer, without index vectors."""
    height, width = (1, space.input_shape[0]) if space.series else space.input_shape[:2]
    channels = space.input_shape[-1]
    macs, flash, peaks = 0, 0, []

    def layer(positions, weights, out):
        nonlocal macs, flash
        assert weights * bits % 8 == 0
        macs += positions * weights
        flash += weights * bits // 8 + (4 + 4 + 4) * out  # bias, multiplier, shift

    for s in architecture.stages:
        kernel = (s.kernel, s.kernel) if isinstance(s.kernel, int) else s.kernel
        area = kernel[1] if space.series else kernel[0] * kernel[1]
        for repeat in range(s.repeats):
            stride = s.stride if isinstance(s.stride, tuple) else (1 if space.series else s.stride, s.stride)
            stride = stride if repeat == 0 else (1, 1)
            before = height * width
            height, width = -(-height // stride[0]), -(-width // stride[1])
            after = height * width
            if s.block == "conv":
                layer(after, area * channels * s.filters, s.filters)
                peaks.append(before * channels + after * s.filters)
            elif s.block == "separable":
                layer(after, area * channels, channels)
                layer(after, channels * s.filters, s.filters)
                peaks += [(before + after) * channels, after * (channels + s.filters)]
            else:
                e, kept = s.expanded, before * channels if repeat else 0
                layer(before, channels * e, e)
                layer(after, area * e, e)
                layer(after, e * s.filters, s.filters)
                peaks += [before * (channels + e), (before + after) * e + kept, after * (e + s.filters) + kept]
                peaks += [3 * after * channels] if repeat else []
            channels = s.filters
    layer(1, channels * space.classes, space.classes)
    peaks += [height * width * channels + channels, channels + space.classes, 2 * space.classes]
    return {"macs": macs, "flash": flash, "ram": max(peaks)}


def data(shape, classes, count=48):
    """Classes that differ in the mean of a channel, so that something can be learned."""
    rng = np.random.default_rng(0)

    def split(size):
        y = np.arange(size) % classes
        x = rng.normal(0, 0.5, (size, *shape))
        x[..., 0] += y.reshape(-1, *[1] * (len(shape) - 1))
        return Split(x.astype(np.float32), y.astype(np.int64))

    names = tuple(map(str, range(classes)))
    return Dataset("made", "made", True, names, split(count), split(24), split(24), "0" * 64)


def context(space, folder, *, count=48, batch_size=16, **more):
    """A step's, with these data."""
    folder.mkdir(exist_ok=True)
    config = load_config("search_digits", ["data.augment=[]", f"data.batch_size={batch_size}"])
    return StepContext(data(space.input_shape, space.classes, count), Chain(()), config, 3, folder, "search", **more)
