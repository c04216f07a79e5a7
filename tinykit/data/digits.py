"""The handwritten digits of scikit-learn: needs no download."""

import numpy as np

from tinykit.data.dataset import Dataset, Split
from tinykit.data.splits import assemble, split_pool
from tinykit.options import Options

CLASS_NAMES = tuple(str(digit) for digit in range(10))


class DigitsOptions(Options):
    """`digits` takes no options."""


def load(options: DigitsOptions, *, seed: int, quicktest: bool) -> Dataset:
    """1797 images of handwritten digits, uint8 [N, 8, 8, 1], values 0 to 16, ten classes.

    The split is fixed: 25 % test, stratified; 10 % of the rest is val. Source: scikit-learn's `load_digits`, a copy of the
    test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998).

    Example:
        data: {name: digits, preprocess: [{divide: {by: 16}}]}
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pool = Split(bunch.images.astype(np.uint8)[..., np.newaxis], bunch.target.astype(np.int64))
    source = "scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits)"
    return assemble("digits", source, CLASS_NAMES, pool, split_pool(pool.y), quicktest=quicktest)
