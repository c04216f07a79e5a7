"""WAV files as int16 samples. The files are untrusted: sizes are bounded and every fault is an error that names the file."""

import struct
import wave
from pathlib import Path

import numpy as np

from tinykit.errors import DataError

MAX_WAV_BYTES = 64 << 20  # half an hour at 16 kHz


def read_wav(path: Path, sample_rate: int) -> np.ndarray:
    """Samples of an uncompressed mono WAV file with 16 bits a sample.

    Args:
        path: of the file.
        sample_rate: that it must have, in Hz.

    Returns:
        int16 [samples], at least one.

    Raises:
        DataError: the file is absent, damaged, cut short, larger than 64 MiB, or of another format; the message names the file.
    """
    try:
        size = path.stat().st_size
        if size > MAX_WAV_BYTES:
            raise DataError(f"{path}: {size} bytes, more than the limit of {MAX_WAV_BYTES} for a WAV file")
        with path.open("rb") as stream, wave.open(stream) as sound:
            received = (sound.getnchannels(), 8 * sound.getsampwidth(), sound.getframerate())
            count = sound.getnframes()
            data = sound.readframes(count) if received == (1, 16, sample_rate) else b""
    except (wave.Error, EOFError, OSError, ValueError, RuntimeError, struct.error) as error:  # RuntimeError: a chunk beyond the end
        raise DataError(f"{path}: cannot be read as a WAV file: {str(error) or 'it ends too early'}; copy it again") from error
    if received != (1, 16, sample_rate):
        raise DataError(
            f"{path}: expected 1 channel, 16 bits, {sample_rate} Hz, received {received[0]} channels, {received[1]} bits, "
            f"{received[2]} Hz; convert it (sox in.wav -c 1 -b 16 -r {sample_rate} out.wav)"
        )
    if len(data) != 2 * count or not count:
        raise DataError(f"{path}: damaged: the header says {count} samples, {len(data) // 2} are there; copy it again")
    return np.frombuffer(data, "<i2").astype(np.int16)


def fitted(samples: np.ndarray, length: int) -> np.ndarray:
    """The first `length` samples, followed by zeros where there are fewer: int16 [length]."""
    clip = np.zeros(length, np.int16)
    clip[: min(length, len(samples))] = samples[:length]
    return clip
