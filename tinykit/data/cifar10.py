"""CIFAR-10."""

from tinykit.data.dataset import Dataset
from tinykit.data.pairs import load_pair
from tinykit.options import Options

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Cifar10Options(Options):
    """`cifar10` takes no options."""


def load(options: Cifar10Options, *, seed: int, quicktest: bool) -> Dataset:
    """Colour photographs, uint8 [N, 32, 32, 3], ten classes, from cifar10_train.npz and cifar10_test.npz in TINYKIT_DATA.

    Each file holds `x` and integer labels `y`. 10 % of the training file, stratified and fixed, is val. Source:
    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. MLPerf Tiny's image classification task.

    Example:
        data: {name: cifar10, preprocess: [], augment: [{flip_lr: {}}, {shift: {pixels: 4}}]}
    """
    source = "CIFAR-10 (Krizhevsky 2009), cifar10_train.npz and cifar10_test.npz"
    return load_pair("cifar10", source, CLASS_NAMES, (32, 32, 3), seed=seed, quicktest=quicktest)
