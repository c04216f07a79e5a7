"""Small images as data URLs."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_MAX_EXAMPLES = 24
_MAX_SIDE = 128


def example_views(examples: Sequence[Mapping[str, Any]] | None) -> list[dict[str, str]]:
    """The first examples as {url, true, predicted, index, alt}; one whose image cannot be shown is passed over."""
    views = []
    for example in (examples or [])[:_MAX_EXAMPLES]:
        url = data_url(example.get("image"))
        if url is None:
            continue
        true, predicted = str(example.get("true", "?")), str(example.get("predicted", "?"))
        index = "" if example.get("index") is None else f"test sample {example['index']}"
        alt = f"{index or 'a test sample'}: a {true} that the integer model takes for {predicted}"
        views.append({"url": url, "true": true, "predicted": predicted, "index": index, "alt": alt})
    return views


def data_url(image: Any) -> str | None:
    """A uint8 image [H, W], [H, W, 1] or [H, W, 3] as a PNG in a data URL; large ones are thinned out to 128 pixels a side.

    Returns None for anything else, such as a window of sensor readings.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.size == 0:
        return None
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim != 2 and not (image.ndim == 3 and image.shape[2] == 3):
        return None
    from PIL import Image

    stride = -(-max(image.shape[:2]) // _MAX_SIDE)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image[::stride, ::stride])).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
