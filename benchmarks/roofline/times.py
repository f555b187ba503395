"""The time of a compiled step on a chip, from what it computes, moves and sends, and from the chip's published rates.

Every instruction takes the longer of two times: that of its products at the chip's bfloat16 rate (a float32 product at
precision `highest` six times as long), and that of its HBM traffic. The step takes the sum over all instructions, and
after it the sum over all collectives: nothing is taken to overlap, neither one instruction with the next nor
communication with computation. What is not in it: vector work that is slower than its memory traffic, products that
do not fill the matrix unit, latencies, and the host. `ideal_seconds` is the other end: everything overlaps.

Beside it stands the TPU compiler's own estimate, which knows its vector code and how it fills the matrix unit: the
cycles that it writes beside every instruction, and the roofline's time where it writes none.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from audiolm_jax.check.chips import Chip
from audiolm_jax.check.collectives import KINDS

from .collectives import Collective
from .links import Links
from .work import Work


@dataclasses.dataclass(frozen=True)
class CollectiveUse:
    """All collectives of one kind in a step.

    Attributes:
        count: how many run.
        payload_bytes: what a chip puts in, summed.
        ici_bytes: what a chip sends over the links of its slice.
        dcn_bytes: what a chip sends over the data-centre network.
        seconds: how long they take, one after the other.
    """

    count: int
    payload_bytes: float
    ici_bytes: float
    dcn_bytes: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Times of one call of a program, per chip.

    Attributes:
        compute_seconds: of all products alone.
        hbm_seconds: of all HBM traffic alone.
        core_seconds: the longer of the two for every instruction, summed.
        collective_seconds: of all collectives.
        compiler_seconds: the compiler's own estimate, and all collectives; None where it makes none.
    """

    compute_seconds: float
    hbm_seconds: float
    core_seconds: float
    collective_seconds: float
    compiler_seconds: float | None

    @property
    def step_seconds(self) -> float:
        """The roofline: core_seconds + collective_seconds."""
        return self.core_seconds + self.collective_seconds

    @property
    def ideal_seconds(self) -> float:
        """The longest of compute, HBM and collectives."""
        return max(self.compute_seconds, self.hbm_seconds, self.collective_seconds)


@dataclasses.dataclass(frozen=True, eq=False)
class Places:
    """Where the chips of a mesh are, position by position.

    Attributes:
        coordinates: int[N, axes] in the slice's interconnect.
        slices: the slice of each.
        wraps: for every axis whether it closes to a ring.
    """

    coordinates: np.ndarray
    slices: tuple[int, ...]
    wraps: tuple[bool, ...]


def wrapped_axes(links: Links, shape: Sequence[int]) -> tuple[bool, ...]:
    """Which axes of a slice of this shape close to a ring."""
    closed = [size % links.wraps_at == 0 for size in shape]
    return (all(closed),) * len(closed) if links.axes == 3 else tuple(closed)


def roofline(
    chip: Chip, clock_hz: float | None, work: Sequence[Work], uses: dict[str, CollectiveUse]
) -> Roofline:
    """The times of a program's work and collectives on a chip, whose clock may not be known."""
    compute = [each.times * each.passes_flops / chip.peak_flops for each in work]
    memory = [each.times * each.hbm_bytes / chip.hbm_bytes_per_second for each in work]
    core = list(map(max, compute, memory))
    collective_seconds = sum(use.seconds for use in uses.values())
    compiler_seconds = None
    if clock_hz and any(each.instruction.estimated_cycles for each in work):
        compiler_seconds = collective_seconds + sum(
            roofline_seconds if cycles is None else each.times * cycles / clock_hz
            for each, roofline_seconds in zip(work, core, strict=True)
            for cycles in [each.instruction.estimated_cycles]
        )
    return Roofline(
        compute_seconds=sum(compute),
        hbm_seconds=sum(memory),
        core_seconds=sum(core),
        collective_seconds=collective_seconds,
        compiler_seconds=compiler_seconds,
    )


def collective_uses(links: Links, found: Sequence[Collective], places: Places) -> dict[str, CollectiveUse]:
    """Bytes and seconds by kind of collective, for the kinds that occur."""
    uses = {}
    for kind in KINDS:
        of_kind = [each for each in found if each.kind == kind]
        if not of_kind:
            continue
        sent = [each.sent_bytes(places.slices) for each in of_kind]
        uses[kind] = CollectiveUse(
            count=sum(each.times for each in of_kind),
            payload_bytes=float(sum(each.times * each.bytes for each in of_kind)),
            ici_bytes=float(sum(each.times * ici for each, (ici, _) in zip(of_kind, sent, strict=True))),
            dcn_bytes=float(sum(each.times * dcn for each, (_, dcn) in zip(of_kind, sent, strict=True))),
            seconds=sum(each.times * collective_seconds(links, each, places) for each in of_kind),
        )
    return uses


def collective_seconds(links: Links, collective: Collective, places: Places) -> float:
    """How long a collective takes: what a chip sends, over the links it can use.

    A group that lies along d axes of the interconnect uses one link per axis, or two where the axis closes to a ring.
    In an all-to-all bytes travel on average over n / 4 chips of a ring.
    """
    ici_bytes, dcn_bytes = collective.sent_bytes(places.slices)
    if collective.kind == "collective-permute":
        used, hops = 1, _longest_way(collective, places)
    else:
        used, hops = _links(collective, places), 1.0
        if collective.kind == "all-to-all":
            hops = max(1.0, collective.group_size / 4)
    return ici_bytes * hops / (used * links.link_bytes_per_second) + dcn_bytes / links.dcn_bytes_per_second


def _links(collective: Collective, places: Places) -> int:
    group = places.coordinates[collective.groups[0]]
    varies = (group != group[0]).any(axis=0)
    return max(1, sum(2 if wraps else 1 for moves, wraps in zip(varies, places.wraps, strict=True) if moves))


def _longest_way(collective: Collective, places: Places) -> float:
    """Links between the chips of a permutation's farthest pair."""
    steps = np.abs(places.coordinates[collective.groups[:, 0]] - places.coordinates[collective.groups[:, 1]])
    sizes = places.coordinates.max(axis=0) + 1
    around = np.where(np.asarray(places.wraps), np.minimum(steps, sizes - steps), steps)
    return float(max(1, around.sum(axis=1).max()))
