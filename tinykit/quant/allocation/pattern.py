"""Bits by hand: patterns of names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from fnmatch import fnmatchcase

from tinykit.errors import ConfigError
from tinykit.quant.allocation.network import WIDTHS, Bits, Network

OUTPUT = "/output"


def by_pattern(network: Network, patterns: Mapping[str, int]) -> Bits:
    """Bits that a user chose.

    Args:
        patterns: shell patterns -> 8, 4 or 2, later ones override earlier ones. `NAME` stands for the weights of layers, `NAME/output`
            for the activations that layers write. What matches nothing stays at 8 bits; so do the network's input and output, and scales
            that an operation dictates, unless a pattern without wildcard names them, which is refused.

    Raises:
        ConfigError: every pattern that names nothing, or what must stay at 8 bits, or another width.
    """
    groups, weights = [8] * network.groups, [8] * len(network.layers)
    problems = []
    outputs = {step.name + OUTPUT: step.result.group for step in network.steps}
    layers = {layer.name: i for i, layer in enumerate(network.layers)}
    for pattern, width in patterns.items():
        if isinstance(width, bool) or width not in WIDTHS:
            problems.append(f"bits: {pattern!r}: expected 8, 4 or 2 bits, received {width!r}")
            continue
        names = outputs if pattern.endswith(OUTPUT) else layers
        matched = [name for name in names if fnmatchcase(name, pattern)]
        if not matched:
            near = difflib.get_close_matches(pattern, names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            what = "layer's output" if names is outputs else "layer with weights"
            problems.append(
                f"bits: {pattern!r} matches no {what}; {hint}(there are {', '.join(list(names)[:12])}{' ...' * (len(names) > 12)})"
            )
        for name in matched:
            if names is layers:
                weights[layers[name]] = width
            elif outputs[name] not in network.fixed:
                groups[outputs[name]] = width
            elif pattern == name and width != 8:
                problems.append(f"bits: {pattern!r} must stay at 8 bits: it is the network's input or result, or its scale is dictated")
    if problems:
        raise ConfigError(problems)
    return Bits(tuple(groups), tuple(weights))
