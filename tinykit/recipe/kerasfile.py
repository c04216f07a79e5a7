"""`.keras` files whose bytes follow from the model alone: Keras writes the time into the archive, once as metadata and once a member."""

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

_METADATA = "metadata.json"
_STAMP = (1980, 1, 1, 0, 0, 0)  # the earliest that ZIP can say
_BLOCK = 1 << 20


def save_model(model: "keras.Model", path: Path) -> None:
    """Writes `model` to `path`; equal models give equal bytes. The file's own date says when it was made."""
    raw = path.with_name(f"{path.stem}-raw{path.suffix}")
    try:
        model.save(raw)
        _rewrite(raw, path)
    finally:
        raw.unlink(missing_ok=True)


def _rewrite(source: Path, target: Path) -> None:
    """Copies an archive without its times, members in order of their names."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in sorted(old.namelist()):
            member = zipfile.ZipInfo(name, _STAMP)
            member.compress_type = old.getinfo(name).compress_type
            member.file_size = old.getinfo(name).file_size
            if name == _METADATA:
                metadata = json.loads(old.read(name))
                metadata.pop("date_saved", None)
                new.writestr(member, json.dumps(metadata))
                continue
            with old.open(name) as reader, new.open(member, "w") as writer:
                while block := reader.read(_BLOCK):
                    writer.write(block)
