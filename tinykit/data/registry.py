"""The table of datasets. A new one costs a file with a `load` function and its options, and one line here."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from tinykit.data import ad, cifar10, csvseries, digits, fashion_mnist, har, image_folder, kws, npz, vww
from tinykit.data.dataset import Dataset
from tinykit.errors import ConfigError
from tinykit.options import Options, nearest, parse_options


class Load(Protocol):
    """`load(options, *, seed, quicktest) -> Dataset`; its docstring gives shape, dtype, source and an example."""

    def __call__(self, options: Any, *, seed: int, quicktest: bool) -> Dataset: ...


@dataclasses.dataclass(frozen=True)
class DatasetEntry:
    """One dataset of the registry."""

    load: Load
    options: type[Options]

    @property
    def doc(self) -> str:
        """Description with an `Example:`, from the docstring of `load`."""
        return self.load.__doc__ or ""


DATASETS: dict[str, DatasetEntry] = {
    "ad": DatasetEntry(ad.load, ad.AdOptions),
    "cifar10": DatasetEntry(cifar10.load, cifar10.Cifar10Options),
    "csv": DatasetEntry(csvseries.load, csvseries.CsvOptions),
    "digits": DatasetEntry(digits.load, digits.DigitsOptions),
    "fashion_mnist": DatasetEntry(fashion_mnist.load, fashion_mnist.FashionMnistOptions),
    "har": DatasetEntry(har.load, har.HarOptions),
    "image_folder": DatasetEntry(image_folder.load, image_folder.ImageFolderOptions),
    "kws": DatasetEntry(kws.load, kws.KwsOptions),
    "npz": DatasetEntry(npz.load, npz.NpzOptions),
    "vww": DatasetEntry(vww.load, vww.VwwOptions),
}


def dataset_names() -> tuple[str, ...]:
    """Names that `load_dataset` takes, sorted."""
    return tuple(sorted(DATASETS))


def dataset_options(name: str) -> type[Options]:
    """The pydantic model of a dataset's options.

    Raises:
        ConfigError: no such dataset; the message has the nearest match.
    """
    return _entry(name).options


def load_dataset(name: str, options: Mapping[str, Any], *, seed: int, quicktest: bool) -> Dataset:
    """Loads a dataset with its fixed splits.

    Args:
        name: one of `dataset_names()`.
        options: see the options of the dataset; unknown keys are refused.
        seed: of generated samples only; splits never depend on it.
        quicktest: keep about 64 train, 32 val and 32 test samples; where the data is absent, generate them (`synthetic`).

    Raises:
        ConfigError: unknown name or wrong options, every problem at once.
        DataError: the data is absent (without `quicktest`), damaged, or of another shape than declared.
    """
    entry = _entry(name)
    return entry.load(parse_options(entry.options, options, f"dataset {name}"), seed=seed, quicktest=quicktest)


def _entry(name: str) -> DatasetEntry:
    if name not in DATASETS:
        raise ConfigError(f"unknown dataset {name!r}: {nearest(name, DATASETS)}")
    return DATASETS[name]
