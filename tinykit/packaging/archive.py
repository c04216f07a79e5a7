"""ZIP files whose bytes depend on their content alone."""

import io
import zipfile
from collections.abc import Mapping

_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the earliest that ZIP can say


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """A ZIP of `files`, content by path, in the order of their paths; equal files give equal bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(files):
            entry = zipfile.ZipInfo(path, _TIMESTAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever it is made, for the permissions
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, files[path])
    return stream.getvalue()
