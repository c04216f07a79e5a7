"""What an allocator sees of a fused Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tinykit.quant.allocation.network import Activation, Network, Step
from tinykit.quant.convert import Tied, tied_program
from tinykit.quant.program import Node, Program

WEIGHTED = ("conv2d", "depthwise_conv2d", "fully_connected")


def network_of(program: Program) -> Network:
    """The steps of a program. A reshape is no step: its result is another name of the same bytes."""
    tied = tied_program(program)
    names: dict[str, str] = {}  # tensor -> the tensor whose bytes it is
    shapes = {"input": program.input_shape}
    for node in tied.nodes:
        shapes[node.name] = node.output_shape
        names[node.name] = names.get(node.inputs[0], node.inputs[0]) if node.kind == "reshape" else node.name

    def activation(name: str) -> Activation:
        owner = names.get(name, name)
        return Activation(owner, tied.index[owner], prod(shapes[owner]))

    executed = [node for node in tied.nodes if node.kind != "reshape"]
    reads = [[names.get(i, i) for i in dict.fromkeys(node.inputs)] for node in executed]
    output = names.get(program.output, program.output)
    steps = []
    for at, node in enumerate(executed):
        born = ["input", *(n.name for n in executed[:at])]
        later = {name for others in reads[at + 1 :] for name in others} | {output}
        bystanders = [name for name in born if name in later and name not in reads[at]]
        live = tuple(activation(name) for name in dict.fromkeys([*reads[at], *bystanders]))
        steps.append(_step(node, live, activation(node.name)))
    fixed = {tied.index["input"], tied.index[output]} | tied.fixed | _logits(executed, tied)
    return Network(program.name, tuple(steps), len(tied.groups), frozenset(fixed))


def _step(node: Node, live: Sequence[Activation], result: Activation) -> Step:
    if node.kind not in WEIGHTED:
        return Step(node.name, tuple(live), result)
    shape = node.config["kernel_shape"]
    macs = prod(shape) * prod(node.output_shape[:-1])  # dense: one position
    return Step(node.name, tuple(live), result, prod(shape), shape[-1], macs)


def _logits(executed: Sequence[Node], tied: Tied) -> set[int]:
    """The group that a final softmax reads: the result of the network, but for its form."""
    last = executed[-1] if executed else None
    return {tied.index[name] for name in last.inputs} if last is not None and last.kind == "softmax" else set()
