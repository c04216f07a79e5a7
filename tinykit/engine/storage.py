"""How the weights of each layer lie in flash: as its kernel reads them, or coded and decoded into scratch memory when the layer begins.

What is decoded are the very bytes that the kernel would read in flash, so kernels know nothing of it. Where all of a layer's weights do not
fit into the memory that the network needs anyway, output channels are decoded and computed in slices, one after the other.

A layer is coded where that saves enough flash and where decoding takes no more than a share of the layer's own instructions; otherwise it
stays dense, and `Storage.reason` says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from tinykit.coding.schemes import SCHEMES, Scheme
from tinykit.engine import access, decoders
from tinykit.engine.call import Storage, Table, Variant
from tinykit.engine.coded import Coded, Layer, coded_variant, extra_instructions, scratch_bytes
from tinykit.graph import costs, ir
from tinykit.graph.plan.problem import Access

DENSE, AUTO = "dense", "auto"
CHOICES = (DENSE, AUTO, *SCHEMES)
MOST_SLICES = 16
_PRICE, _NAMED_PRICE = 2.0, 0.5
_LEAST_SAVED = 150
"""Bytes that a layer must save: its calls take some."""
_PORTABLE_RATE = 5.0
"""Instructions of a portable kernel for a product, about."""


@dataclass(frozen=True)
class StorageWish:
    """What may be done to weights.

    Attributes:
        choice: DENSE; AUTO: each layer's smallest coding; or the one coding that layers may have.
        limit: instructions of decoding for each of the layer's own, at most.
        gain: share of its bytes that a layer must save.
        most: bytes of flash that each byte of RAM must save, at most, which the network would not need otherwise.
        room: bytes that the arena may take for decoded weights, where the network needs less otherwise; None: any number.
    """

    choice: str = AUTO
    limit: float = 0.25
    gain: float = 0.2
    most: float = _PRICE
    room: int | None = None

    @property
    def price(self) -> float:
        """Bytes of flash that each byte of RAM must save which the network would not need otherwise."""
        return min(self.most, _PRICE if self.choice == AUTO else _NAMED_PRICE)

    def within(self, flash: int | None, room: int | None) -> StorageWish:
        """The same under a budget in bytes, of the image and of the arena: where flash is scarce, a byte of RAM is worth less of it."""
        if room is None or room <= 0:
            return self
        return replace(self, most=self.most if flash is None else min(self.most, flash / room), room=room)

    @property
    def schemes(self) -> tuple[Scheme, ...]:
        """Those that layers may have."""
        return () if self.choice == DENSE else tuple(SCHEMES.values()) if self.choice == AUTO else (SCHEMES[self.choice],)


AS_IT_PAYS = StorageWish()
"""Where nobody says anything."""


@dataclass(frozen=True)
class Room:
    """The memory that there is to decode weights in.

    Attributes:
        needs: accesses by op -> bytes that the steps of these ops need.
        limit: bytes that the arena may take anyway.
        most: bytes that it may take at all.
        price: bytes of flash that each byte beyond the limit must save; None: there is nothing beyond it.
    """

    needs: Callable[[Mapping[str, Access]], Mapping[str, int]]
    limit: float
    most: float
    price: float | None


def chosen(graph: ir.Graph, variants: Mapping[str, Variant], wish: StorageWish, room: Room) -> tuple[dict[str, Variant], float]:
    """The variants with their weights stored as wished, and the bytes that the arena may take for that.

    Every op with weights says in its `Variant.storage` how they are stored, and why; nothing is said where the wish is DENSE.

    Args:
        variants: how the ops are executed.
    """
    found = dict(variants)
    if wish.choice == DENSE:
        return found, room.limit
    layers: list[Layer] = []
    for op in graph.ops:
        if isinstance(op, ir.Weighted):
            layer = _layer(graph, op, variants[op.name])
            if isinstance(layer, Storage):
                found[op.name] = replace(variants[op.name], storage=layer)
            else:
                layers.append(layer)
    codings = {layer.op.name: [made for scheme in wish.schemes if (made := _coded(layer, scheme, wish)) is not None] for layer in layers}
    offers = _offers(graph, layers, codings, wish, room)
    taken, arena = _best(offers, room)
    for layer in layers:
        name = layer.op.name
        if name in taken:
            found[name] = coded_variant(graph, layer, taken[name].coded, taken[name].fewest(arena))
            continue
        least = min((offer.least for offer in offers if offer.layer is layer), default=0)
        why = f"to decode it the arena would take {least:,} bytes, more than that is worth" if least > arena else None
        found[name] = _dense(layer.variant, layer.size, why or _refusal(layer, codings[name], wish))
    return found, arena


def dense_again(plain: Variant, storage: Storage, reason: str) -> Variant:
    """A variant as it was before its weights were to be coded as `storage` says."""
    return _dense(plain, storage.dense_bytes, reason)


def _dense(plain: Variant, size: int, reason: str) -> Variant:
    return replace(plain, storage=Storage(None, size, size, 0, reason))


def _layer(graph: ir.Graph, op: ir.Weighted, variant: Variant) -> Layer | Storage:
    """What is known of an op's weights; or why they stay as they are."""
    call = variant.call(False)
    name, table = next(((n, a) for n, a in call.arguments.items() if isinstance(a, Table) and a.role == "w"), ("", None))
    weights = None if table is None else decoders.extract(table)
    if table is None or weights is None or not len(weights.values):
        size = 0 if table is None else table.values.nbytes
        why = f"weights of {op.weight_bits} bits are packed already" if op.weight_bits < 8 else "few weights, between other constants"
        return Storage(None, size, size, 0, why)
    own = variant.instructions if math.isfinite(variant.instructions) else _PORTABLE_RATE * costs.op_macs(graph, op)
    return Layer(op, variant, own, name, table, weights)


# ---------------------------------------------------------------- which coding


def _coded(layer: Layer, scheme: Scheme, wish: StorageWish) -> Coded | None:
    """What a coding makes of the weights; None where it cannot code them, or where their entropy says that it will not save enough."""
    values = layer.weights.values
    if layer.entropy > (1 - wish.gain) * 8:
        return None
    book = scheme.book(values)
    if book is None:
        return None
    size, seen = scheme.size(book, values)
    return Coded(scheme, book, size + len(book) + scheme.coder.slack, seen)


def _pays(layer: Layer, coded: Coded, wish: StorageWish) -> bool:
    return layer.size - coded.bytes >= max(wish.gain * layer.size, _LEAST_SAVED)


def _refusal(layer: Layer, offers: Sequence[Coded], wish: StorageWish) -> str:
    """Why a layer stays dense."""
    least = min(offers, key=lambda coded: coded.bytes, default=None)
    if least is None:
        return f"its weights have {layer.entropy:.1f} bits of entropy each: no coding saves {wish.gain:.0%}"
    if not _pays(layer, least, wish):
        saved = layer.size - least.bytes
        return f"{least.scheme.name} would {'save' if saved > 0 else 'add'} {abs(saved):,} bytes" + ", too few" * (saved > 0)
    paying = [coded for coded in offers if _pays(layer, coded, wish)]
    extra, name = min((extra_instructions(layer, coded, layer.records), coded.scheme.name) for coded in paying)
    if extra > wish.limit * layer.own:
        return f"decoding ({name}) would take {extra / layer.own:.2f} of the layer's own instructions, limit {wish.limit:g}"
    return "it would save less than decoders and their calls take"


# ---------------------------------------------------------------- which layers, in how many slices


@dataclass(frozen=True)
class _Offer:
    """A coding that a layer may have.

    Attributes:
        options: (records that are decoded at once, bytes of the arena that the layer needs then), all at once first.
    """

    layer: Layer
    coded: Coded
    options: Sequence[tuple[int, int]]

    @property
    def least(self) -> int:
        """Bytes of the arena with as many slices as there may be."""
        return min(need for _, need in self.options)

    def saved(self, arena: float) -> int:
        """Bytes of flash, the calls of all slices subtracted, without the decoders."""
        return self.layer.size - self.coded.bytes - decoders.SLICE_BYTES * len(self.layer.slices(self.fewest(arena)))

    @property
    def parts(self) -> set[str]:
        """The decoders that it needs."""
        return (
            {self.coded.scheme.coder.name}
            | ({"bitmap"} if self.coded.scheme.bitmap else set())
            | ({"weave"} if self.layer.weights.woven else set())
        )

    def fewest(self, arena: float) -> int:
        """Records at once, the most for which there is room."""
        return next(each for each, need in self.options if need <= arena)


def _offers(
    graph: ir.Graph, layers: Sequence[Layer], codings: Mapping[str, Sequence[Coded]], wish: StorageWish, room: Room
) -> list[_Offer]:
    """What saves enough and is decoded quickly enough."""
    at_once = room.needs({layer.op.name: replace(layer.variant.access, scratch=0) for layer in layers})
    sliced = room.needs({layer.op.name: access.whole(graph, layer.op) for layer in layers})
    found = []
    for layer in layers:
        beside = {True: at_once[layer.op.name], False: sliced[layer.op.name]}
        for coded in (coded for coded in codings[layer.op.name] if _pays(layer, coded, wish)):
            quick = [each for each in _record_counts(layer) if extra_instructions(layer, coded, each) <= wish.limit * layer.own]
            if quick:
                options = [(each, beside[each >= layer.records] + scratch_bytes(layer, coded, each)) for each in quick]
                found.append(_Offer(layer, coded, options))
    return found


def _record_counts(layer: Layer) -> list[int]:
    """Records at once, from all of them to one slice in MOST_SLICES."""
    most = MOST_SLICES if layer.variant.part is not None else 1
    return sorted({-(-layer.records // slices) for slices in range(1, min(most, layer.records) + 1)}, reverse=True)


def _best(offers: Sequence[_Offer], room: Room) -> tuple[dict[str, _Offer], float]:
    """The codings that save the most flash, decoders and the price of RAM subtracted, and the bytes of the arena.

    Every set of decoders is tried, in the arena that there is anyway and in every larger one that a layer might want."""
    every = sorted(set[str]().union(*(offer.parts for offer in offers)))
    wanted = {need for offer in offers for need in (offer.least, offer.options[0][1])}
    beyond = {need for need in wanted if room.price is not None and room.limit < need <= room.most}
    most: float = 0
    best: tuple[dict[str, _Offer], float] = {}, room.limit
    for arena in sorted({room.limit, *beyond}):
        price = 0 if arena == room.limit else (room.price or 0) * (arena - room.limit)
        fitting = [(offer.saved(arena), offer) for offer in offers if offer.least <= arena]
        for allowed in (set(some) for count in range(1, len(every) + 1) for some in combinations(every, count)):
            found: dict[str, tuple[int, _Offer]] = {}
            for saved, offer in fitting:
                if offer.parts <= allowed and saved > found.get(offer.layer.op.name, (0, offer))[0]:  # of equals the quicker comes first
                    found[offer.layer.op.name] = saved, offer
            total = sum(saved for saved, _ in found.values()) - sum(decoders.CODE_BYTES[part] for part in allowed) - price
            if total > most:
                most, best = total, ({name: offer for name, (_, offer) in found.items()}, arena)
    return best
