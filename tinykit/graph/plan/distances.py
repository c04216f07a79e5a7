"""How far apart a step's input and output must start, from what the kernel reads and writes unit by unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinykit.graph.plan.problem import Access

_NEVER = np.iinfo(np.int64).max // 4  # beyond any offset, and safe to subtract


@dataclass(frozen=True)
class Distance:
    """Where an output (at offset O) may lie with respect to an input that dies in its step (at offset I), in bytes.

    Attributes:
        forward: units in listed order are safe at every I - O >= forward; negative: the output may start above the input.
        reverse: units in descending order are safe at every O - I >= reverse; the size of the input where the kernel cannot run in reverse.
        in_place: O == I is safe in either direction, whatever the other two say.
    """

    forward: int
    reverse: int
    in_place: bool = False


def round_up(value: int, alignment: int) -> int:
    """The least multiple of `alignment` (a power of two) that is not below `value`, which may be negative."""
    return -(-value // alignment) * alignment


def distance(access: Access, tensors: Sequence[str], input_bytes: int, output_bytes: int, alignment: int) -> Distance:
    """The least safe distances between the output of a step and one of its input buffers.

    Args:
        access: of the step's kernel.
        tensors: every name under which the step reads the buffer (an alias is another name of the same bytes).
        input_bytes, output_bytes: sizes of the two buffers.
        alignment: of both offsets.

    Returns:
        Distances rounded up to the alignment: forward in [-input_bytes, output_bytes], reverse in [-output_bytes, input_bytes], where
        buffers are disjoint at the upper ends.
    """
    whole_input, whole_output = round_up(input_bytes, alignment), round_up(output_bytes, alignment)
    bits = 8 * alignment
    reads = [np.asarray(access.reads[t], dtype=np.int64) for t in tensors]
    writes = np.asarray(access.writes, dtype=np.int64)
    forward = max((_forward(r, writes, access.buffered) for r in reads), default=-_NEVER)
    reverse = max((_reverse(r, writes, access.buffered) for r in reads), default=-_NEVER) if access.reversible else 8 * whole_input
    return Distance(
        forward=min(max(round_up(forward, bits) // 8, -whole_input), whole_output),
        reverse=min(max(round_up(reverse, bits) // 8, -whole_output), whole_input),
        in_place=all(t in access.in_place for t in tensors),
    )


def _forward(reads: np.ndarray, writes: np.ndarray, buffered: bool) -> int:
    """Least I - O in bits: the first bit that a unit reads is not below the end of what was written before it."""
    ends = np.where(writes[:, 1] > writes[:, 0], writes[:, 1], -_NEVER)
    written = np.maximum.accumulate(ends)  # highest bit written once unit u is done
    if buffered:  # the unit itself reads first
        written = np.concatenate(([-_NEVER], written[:-1]))
    used = reads[:, 1] > reads[:, 0]
    return int((written[used] - reads[used, 0]).max(initial=-_NEVER))


def _reverse(reads: np.ndarray, writes: np.ndarray, buffered: bool) -> int:
    """Least O - I in bits: the end of what a unit reads is not above the lowest byte written before it."""
    starts = np.where(writes[:, 1] > writes[:, 0], writes[:, 0], _NEVER)
    written = np.minimum.accumulate(starts[::-1])[::-1]
    if buffered:
        written = np.concatenate((written[1:], [_NEVER]))
    used = reads[:, 1] > reads[:, 0]
    return int((reads[used, 1] - written[used]).max(initial=-_NEVER))
