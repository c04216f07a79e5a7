"""A bound on the memory that a description can ask for: a hundred bytes of JSON may describe a layer of a terabyte."""

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinykit.errors import ModelError

SPARE_VALUES = 1 << 16
"""Variables that a file need not hold, such as the states of random generators."""


class Bound:
    """Counts the weights of the layers that are being made.

    Attributes:
        exceeded: what was wrong, "" as long as nothing was; Keras wraps or swallows the exception that stopped it.
    """

    def __init__(self, values: int) -> None:
        self.limit, self.count, self.exceeded = values + SPARE_VALUES, 0, ""

    def add(self, layer: Any, shape: Any) -> None:
        """Counts one weight.

        Raises:
            ModelError: with it, there are more weights than the file holds numbers.
        """
        sizes = [int(size) for size in (shape if isinstance(shape, (list, tuple)) else [shape]) if size is not None]
        self.count += math.prod(sizes)
        if self.count > self.limit:
            self.exceeded = self.exceeded or (
                f"layer {getattr(layer, 'name', '?')!r}: a weight of shape {sizes}, but the file holds only "
                f"{self.limit - SPARE_VALUES} numbers; its description does not belong to its weights"
            )
            raise ModelError(self.exceeded)


@contextmanager
def bounded_weights(base: type, values: int) -> Iterator[Bound]:
    """Within, layers derived from `base` (a Layer class of Keras) make no more weights than a file of `values` numbers can fill."""
    bound = Bound(values)
    original: Any = base.add_weight  # type: ignore[attr-defined]
    signature = inspect.signature(original)

    def add_weight(layer: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind_partial(layer, *args, **kwargs).arguments
        bound.add(layer, given.get("shape"))
        return original(layer, *args, **kwargs)

    base.add_weight = add_weight  # type: ignore[attr-defined]
    try:
        yield bound
    finally:
        base.add_weight = original  # type: ignore[attr-defined]
