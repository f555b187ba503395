"""How TPU chips are joined, and their clocks; everything per chip, in units per second."""

import dataclasses

from audiolm_jax.check.chips import GIGA, TERA


@dataclasses.dataclass(frozen=True)
class Links:
    """Of one kind of TPU.

    Attributes:
        link_bytes_per_second: of one link between neighbouring chips (ICI), in one direction.
        dcn_bytes_per_second: its share of its host's network, in one direction, between slices.
        axes: dimensions of the interconnect.
        wraps_at: a dimension closes to a ring if it is a multiple of this; for three dimensions, if all of them are.
        clock_hz: of its cores, in which the compiler estimates; None where it is not published.
    """

    link_bytes_per_second: float
    dcn_bytes_per_second: float
    axes: int
    wraps_at: int
    clock_hz: float | None


# Where no page is named: https://jax-ml.github.io/scaling-book/tpus. "Its page" is that of the chip in
# audiolm_jax/check/chips.py.
LINKS = {
    "v4": Links(
        link_bytes_per_second=45 * GIGA,  # the v4 paper, https://arxiv.org/abs/2304.01433, has 50
        dcn_bytes_per_second=50 * GIGA / 8,
        axes=3,
        wraps_at=4,  # its page, "3D mesh and 3D torus"
        clock_hz=1.05e9,  # https://arxiv.org/abs/2304.01433
    ),
    "v5e": Links(
        # Its page has 400 GB/s per chip in both directions over 4 links, which makes 50.
        link_bytes_per_second=45 * GIGA,
        dcn_bytes_per_second=25 * GIGA / 8,  # its page: 6.4 Tbit/s for the 256 chips of a pod
        axes=2,
        wraps_at=16,
        clock_hz=1.5e9,
    ),
    "v5p": Links(
        # Its page has 1200 GB/s per chip in both directions over 6 links, which makes 100.
        link_bytes_per_second=90 * GIGA,
        dcn_bytes_per_second=50 * GIGA / 8,  # its page: 50 Gbit/s per chip
        axes=3,
        wraps_at=4,  # its page: slices are made of cubes of 4 x 4 x 4
        # Follows from its rate: 8 matrix units (its page) of 128 x 128 products a cycle.
        clock_hz=459 * TERA / (2 * 8 * 128 * 128),
    ),
    "v6e": Links(
        # Its page has 800 GB/s per chip in both directions over 4 links, which makes 100.
        link_bytes_per_second=90 * GIGA,
        dcn_bytes_per_second=100 * GIGA / 8,
        axes=2,
        wraps_at=16,
        clock_hz=None,
    ),
}
