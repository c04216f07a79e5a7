"""Recipes that make networks smaller and cannot work: orders, options at their edges, layers and teachers. All of them are told before any
training begins: the run directory then holds what was asked for and no step."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from badinput_config import GOOD, wrote
from badinput_kind import kind
from badinput_models import keras, network, save, started

SHRINK = "smaller networks"
UNDO = "put it before"
FLOAT = "needs a float model"
FEWEST = "the least that its options can reach is more than the target: a budget that is not met"


def classifier(channels: int = 12, norm: bool = False, classes: int = 2, shape: tuple[int, ...] = (8, 8, 1)) -> Any:
    """Convolutions `first`, `mid` and `point`; with `norm` a Normalization a channel before the last of them."""
    layers = keras().layers
    inputs = keras().Input(shape)
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="first")(inputs)
    x = layers.Conv2D(channels, 3, padding="same", activation="relu", name="mid")(x)
    if norm:
        x = layers.Normalization(axis=-1, mean=[i / channels for i in range(channels)], variance=[1.0 + i for i in range(channels)])(x)
    x = layers.Conv2D(channels, 1, activation="relu", name="point")(x)
    return keras().Model(inputs, layers.Dense(classes, activation="softmax", name="scores")(layers.GlobalAveragePooling2D()(x)))


def order(recipe: str, *says: str, name: str = "") -> None:
    """A recipe whose steps are refused with the configuration, before data or TensorFlow are looked at."""
    text = GOOD.replace("recipe: float", f"recipe: {recipe}")
    kind(SHRINK, name or f"order {recipe.strip('[]')}", *says)(lambda folder: wrote(folder, text))


def refused(
    name: str,
    recipe: str,
    *says: str,
    make: Callable[[], Any] = classifier,
    beside: Callable[[Path], object] = lambda folder: None,
    **more: Any,
) -> None:
    """A recipe whose steps refuse the model of `make`; `beside` makes files beside it."""

    def build(folder: Path) -> Sequence[str]:
        save(make(), folder / "m.keras")
        beside(folder)
        return started(folder, "m.keras", recipe)

    kind(SHRINK, name, *says, heavy=True, workdir="w", **more)(build)


# ---- orders: what an earlier step did would be undone, or is not there any more

PRUNE, DECOMPOSE, SPARSIFY = "prune: {macs: 0.5}", "decompose: {macs: 0.7}", "sparsify: {sparsity: 0.5}"
for late in (f"{{{PRUNE}}}", f"{{{DECOMPOSE}}}"):
    step = late[1:].split(":")[0]
    order(f"[train, sparsify, {late}]", f"step '{step}' would undo what 'sparsify'", UNDO)
    order(f"[train, cluster, {late}]", f"step '{step}' would undo what 'cluster'", UNDO)
for promised in ("sparsify", "cluster"):
    order(f"[train, {promised}, train]", f"step 'train' would undo what '{promised}'", UNDO)
order("[train, cluster, sparsify]", "step 'sparsify' would undo what 'cluster'", UNDO)
for made in ("quantize", "ptq"):
    for late in (f"{{{PRUNE}}}", f"{{{DECOMPOSE}}}", "sparsify", "cluster", "distill", "quantize", "ptq", "train"):
        name = late.strip("{").split(":")[0]
        order(f"[train, {made}, {late}]", f"step '{name}' {FLOAT}", f"'{made}' before it")

# ---- options that no model could have

order("[train, prune]", "nothing to reach", "macs: 0.5 halves the work", name="prune without a target")
order("[train, {prune: {macs: 0}}]", "macs", "a share between 0 and 1, or a whole number", name="prune to nothing")
order(
    "[train, {prune: {instructions: 1.5}}]", "instructions", "a share between 0 and 1, or a whole number", name="prune to a share above 1"
)
order("[train, {prune: {layers: {mid: 0}}}]", "layers", "expected shares above 0", name="prune a layer away")
order("[train, {prune: {macs: 0.5, least: 2}}]", "least", "less than or equal to 1", name="prune with a least share above 1")
order("[train, {sparsify: {sparsity: 1}}]", "sparsity", "less than 1", name="sparsify everything")
order("[train, {sparsify: {layers: {mid: 1.0}}}]", "layers", "from 0 up to below 1", name="sparsify a layer away")
order("[train, {sparsify: {pattern: 2of4, sparsity: 0.7}}]", "2of4 makes half", "leave sparsity out", name="2of4 with another sparsity")
order("[train, {sparsify: {pattern: blocks, block: 1}}]", "block", "greater than or equal to 2", name="sparsify in blocks of 1")
order("[train, {cluster: {clusters: 1}}]", "clusters", "greater than or equal to 2", name="cluster to one value")
order("[train, {cluster: {clusters: 257}}]", "clusters", "less than or equal to 256", name="cluster to more values than a byte has")
order("[train, {cluster: {layers: {mid: row}}}]", "layers", "'tensor', 'channel' or 'free'", name="cluster with an unknown table")
order("[train, {decompose: {macs: 0}}]", "macs", "greater than 0", name="decompose to nothing")
order("[train, {decompose: {macs: 1}}]", "macs", "less than 1", name="decompose and keep everything")
order("[train, {decompose: {methods: []}}]", "methods", "at least 1", name="decompose without a method")
order("[train, {decompose: {methods: [qr]}}]", "methods", "'svd', 'tucker', 'separable' or 'cp'", name="decompose by an unknown method")
order("[train, {decompose: {ranks: 0}}]", "ranks", "'budget', 'harm', 'energy' or 'evidence'", name="decompose to rank 0")
order("[train, {decompose: {ranks: energy, energy: 1}}]", "energy", "less than 1", name="decompose and keep all of the energy")
order("[{distill: {teacher: [t.keras], distill: 1.5}}]", "distill", "less than or equal to 1", name="distill by more than everything")
order("[{distill: {teacher: [t.keras], temperature: 0}}]", "temperature", "greater than 0", name="distill without a temperature")
order(
    "[{distill: {teacher: [t.keras], transfer: hint, repeat_after: 4}}]",
    "repeat_after",
    "leave out transfer or repeat_after",
    name="remembered answers of inner tensors",
)
order(
    "[{distill: {teacher: [t.keras], repeat_after: 0}}]",
    "repeat_after",
    "greater than or equal to 1",
    name="answers remembered for no epoch",
)

order("[{quantize: {bits: optimum, harm_limit: 1.0}}]", "harm_limit", "leave harm_limit out", name="a limit of harm for the optimum")
order(
    "[{quantize: {bits: rule, output_harm_limit: 1.0}}]", "output_harm_limit", "set bits to patterns",
    name="a limit of the outputs' harm for the rule",
)  # fmt: skip

# ---- channels

refused(
    "prune to fewer MACs than there can be", f"[{{{PRUNE.replace('0.5', '10')}}}]", "10 MACs are wanted", "raise macs", code=3, why=FEWEST
)
refused(
    "prune with shares by hand against the target", "[{prune: {macs: 0.5, layers: {'*': 1.0}}}]", "MACs are wanted", "raise macs", code=3,
    why=FEWEST,
)  # fmt: skip
refused(
    "prune in multiples that no layer has", "[{prune: {macs: 0.5, multiple: 64}}]", "MACs are wanted", "multiple (64)", code=3, why=FEWEST
)
refused("prune an unknown layer", "[{prune: {layers: {middle: 0.5}}}]", "no layer with channels of its own is called 'middle'", "mid")
refused("prune the classes", "[{prune: {layers: {scores: 0.5}}}]", "'scores' cannot lose channels", "its function softmax")
refused(
    "prune a network without channels of its own", f"[{{{PRUNE}}}]", "no channels that may go", "the network's output",
    make=lambda: keras().Sequential([keras().Input((8, 8, 1)), keras().layers.Flatten(), keras().layers.Dense(2)]),
)  # fmt: skip

# ---- zeros

refused(
    "2of4 on odd channels",
    "[{sparsify: {pattern: 2of4}}]",
    "'point' cannot have pattern 2of4",
    "pattern: weights",
    make=lambda: classifier(11),
)
refused(
    "2of4 behind a pruning that leaves odd channels", "[{prune: {macs: 0.5, multiple: 2}}, {sparsify: {pattern: 2of4}}]",
    "2of4 needs input channels in fours", "give prune a multiple of 4",
)  # fmt: skip
refused(
    "blocks that are longer than the channels", "[{sparsify: {pattern: blocks, block: 64}}]", "'mid' cannot have pattern blocks",
    "'point' cannot have pattern blocks", problems=2,
)  # fmt: skip
refused(
    "a sparsity that layers cannot reach", "[{sparsify: {sparsity: 0.97}}]", "sparsity 0.97 of the network cannot be reached", "lower it"
)
refused(
    "sparsify an unknown layer",
    "[{sparsify: {layers: {middle: 0.5}}}]",
    "no dense or convolution layer is called 'middle'",
    "did you mean 'mid'",
)
refused("sparsify no layer", "[{sparsify: {layers: {'*': 0}}}]", "no layer takes part", "unless `layers` names them")
refused(
    "zeros with 2 bits of four levels", "[{sparsify: {sparsity: 0.5}}, {ptq: {bits: {mid: 2}}}]", "steps.ptq.bits: gives weights 2 bits",
    "set steps.ptq.codebook=ternary",
)  # fmt: skip

# ---- shared values

refused("cluster an unknown layer", "[{cluster: {layers: {middle: tensor}}}]", "no dense or convolution layer is called 'middle'", "mid")
refused("cluster no layer", "[{cluster: {layers: {'*': free}}}]", "no layer takes part", "unless `layers` names them")
refused(
    "cluster a layer behind a Normalization a channel", "[{cluster: {layers: {point: tensor}}}, ptq]", "'point' cannot share values",
    "give it 'free'", make=lambda: classifier(norm=True),
)  # fmt: skip
refused("shared values with weights evened out", "[cluster, {ptq: {equalize: true}}]", "steps.ptq.equalize", "leave equalize out")

# ---- chains

refused(
    "decompose to fewer MACs than there can be",
    "[{decompose: {macs: 0.01}}]",
    "at the smallest ranks",
    "give a larger share",
    code=3,
    why=FEWEST,
)
refused(
    "decompose by methods that suit no layer", "[{decompose: {methods: [svd], layers: [mid]}}]", "suit none of the layers mid",
    "svd is for dense and pointwise",
)  # fmt: skip
refused("decompose an unknown layer", "[{decompose: {layers: [middle]}}]", "no dense or convolution layer is called 'middle'", "mid")
for following, where in (
    ("{sparsify: {layers: {mid: 0.5}, sparsity: 0.3}}", "steps.sparsify.layers"),
    ("{cluster: {layers: {mid: tensor}}}", "steps.cluster.layers"),
    ("{prune: {layers: {mid: 0.5}}}", "steps.prune.layers"),
    ("{ptq: {bits: {mid: 4}}}", "steps.ptq.bits"),
):
    refused(
        f"{where} of a layer that may be a chain by then", f"[{{{DECOMPOSE}}}, {following}]", f"{where}: 'mid' fits only", "write 'mid*'"
    )

# ---- teachers


def teacher(make: Callable[[], Any]) -> Callable[[Path], object]:
    """Saves a teacher as t.keras."""
    return lambda folder: save(make(), folder / "t.keras")


def taught(name: str, entries: str, *says: str, step: str = "distill", **more: Any) -> None:
    """A step with teachers."""
    refused(name, f"[{{{step}: {{{'macs: 0.5, ' * (step == 'prune')}teacher: {entries}}}}}]", *says, **more)


taught("a teacher that is not there", "[none.keras]", "teacher 1: none.keras", "does not exist")
taught(
    "a teacher with other classes",
    "[t.keras]",
    "gives an output of shape [5]",
    "score the same classes",
    beside=teacher(lambda: classifier(classes=5)),
)
taught("a teacher with another input", "[t.keras]", "teacher 1: ", "[8, 8, 1]", beside=teacher(lambda: classifier(shape=(9, 9, 1))))
taught("a teacher of another model family", "[{name: cmn}]", "teacher 1: ", "did you mean 'cnn'?")
taught("a teacher with epochs and no name", "[{epochs: 3}]", "teacher", "name", problems=2, code=2)
taught(
    "several teachers of which one has other classes", "[m.keras, t.keras, none.keras]", "teacher 2: ", "teacher 3: none.keras", problems=2,
    beside=teacher(lambda: classifier(classes=5)),
)  # fmt: skip
taught(
    "a teacher of a pruning with other classes",
    "[t.keras]",
    "score the same classes",
    "teacher 1",
    step="prune",
    beside=teacher(lambda: network(classes=3)),
)
refused(
    "distill by the model itself",
    "[distill]",
    "the teacher would be the model itself",
    "name one, such as steps.distill.teacher=[runs/large]",
)
refused("distill with nothing to be taught", "[{distill: {distill: 0, teacher: [m.keras]}}]", "nothing is taught", "use `train`")


def flat() -> Any:
    """A network without inner tensors that have a resolution."""
    return keras().Sequential([keras().Input((8, 8, 1)), keras().layers.Flatten(), keras().layers.Dense(2)])


refused(
    "a transfer between networks without a common resolution",
    "[{distill: {teacher: [t.keras], transfer: attention}}]",
    "no tensor of the model",
    "leave `transfer` out",
    beside=teacher(flat),
)

# ---- nothing to make smaller yet

for step, option in (("prune", "{macs: 0.5}"), ("sparsify", "{sparsity: 0.5}"), ("cluster", "{clusters: 8}"), ("decompose", "{macs: 0.7}")):
    random = GOOD.replace(
        "recipe: float", f"recipe: [{{{step}: {option}}}, train]" if step == "prune" else f"recipe: [{{{step}: {option}}}]"
    )
    kind(
        SHRINK,
        f"{step} of random weights",
        f"step {step}: the model has random weights",
        "put `train` or `distill` before it",
        heavy=True,
        workdir="w",
    )(lambda folder, text=random: wrote(folder, text))
