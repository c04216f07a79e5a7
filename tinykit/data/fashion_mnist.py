"""Fashion-MNIST."""

from tinykit.data.dataset import Dataset
from tinykit.data.pairs import load_pair
from tinykit.options import Options

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class FashionMnistOptions(Options):
    """`fashion_mnist` takes no options."""


def load(options: FashionMnistOptions, *, seed: int, quicktest: bool) -> Dataset:
    """Grey images of clothing, uint8 [N, 28, 28, 1], ten classes, from fashion_mnist_train.npz and fashion_mnist_test.npz.

    Each file in TINYKIT_DATA holds `x` ([N, 28, 28] or with the channel axis, which is added) and integer labels `y`. 10 % of
    the training file, stratified and fixed, is val. Source: Xiao, Rasul and Vollgraf, arXiv:1708.07747 (MIT licence).

    Example:
        data: {name: fashion_mnist, preprocess: [{divide: {by: 255}}]}
    """
    source = "Fashion-MNIST (Xiao et al. 2017), fashion_mnist_train.npz and fashion_mnist_test.npz"
    return load_pair("fashion_mnist", source, CLASS_NAMES, (28, 28, 1), seed=seed, quicktest=quicktest)
