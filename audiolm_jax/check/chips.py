"""What the makers publish about each TPU chip. Everything per chip; memory in bytes, rates in units per second.

A v4 or v5p chip shows as one device (both of its cores together), as v5e and v6e chips do by nature.
"""

import dataclasses

GIB = 2**30
TERA = 1e12
GIGA = 1e9

SCALING_BOOK = "https://jax-ml.github.io/scaling-book/tpus"


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of TPU.

    Attributes:
        name: as in a topology's name ("v4").
        peak_flops: bfloat16 multiplications and additions per second.
        hbm_bytes: size of its memory.
        usable_hbm_bytes: what the compiler lets a program have; the rest is the runtime's. As libtpu 0.0.52 says.
        hbm_bytes_per_second: its bandwidth.
        link_bytes_per_second: of one link between neighbouring chips (ICI), in one direction.
        dcn_bytes_per_second: its share of its host's network, in one direction, between slices.
        clock_hz: of its cores, in which the compiler estimates; None where it is not published.
        axes: dimensions of the interconnect.
        wraps_at: a dimension closes to a ring if it is a multiple of this; for three dimensions, if all of them are.
        source: pages that state these numbers.
    """

    name: str
    peak_flops: float
    hbm_bytes: int
    usable_hbm_bytes: int
    hbm_bytes_per_second: float
    link_bytes_per_second: float
    dcn_bytes_per_second: float
    clock_hz: float | None
    axes: int
    wraps_at: int
    source: tuple[str, ...]


CHIPS = {
    "v4": Chip(
        name="v4",
        peak_flops=275 * TERA,  # https://docs.cloud.google.com/tpu/docs/v4
        hbm_bytes=32 * GIB,  # the same page
        usable_hbm_bytes=int(30.75 * GIB),
        hbm_bytes_per_second=1200 * GIGA,  # the same page
        link_bytes_per_second=45 * GIGA,  # SCALING_BOOK; the v4 paper, https://arxiv.org/abs/2304.01433, has 50
        dcn_bytes_per_second=50 * GIGA / 8,  # SCALING_BOOK
        clock_hz=1.05e9,  # https://arxiv.org/abs/2304.01433
        axes=3,
        wraps_at=4,  # https://docs.cloud.google.com/tpu/docs/v4, "3D mesh and 3D torus"
        source=("https://docs.cloud.google.com/tpu/docs/v4", "https://arxiv.org/abs/2304.01433", SCALING_BOOK),
    ),
    "v5e": Chip(
        name="v5e",
        peak_flops=197 * TERA,  # https://docs.cloud.google.com/tpu/docs/v5e
        hbm_bytes=16 * GIB,  # the same page
        usable_hbm_bytes=int(15.75 * GIB),
        hbm_bytes_per_second=819 * GIGA,  # the same page
        # SCALING_BOOK; the page above has 400 GB/s per chip in both directions over 4 links, which makes 50.
        link_bytes_per_second=45 * GIGA,
        dcn_bytes_per_second=25 * GIGA / 8,  # the same page: 6.4 Tbit/s for the 256 chips of a pod
        clock_hz=1.5e9,  # SCALING_BOOK
        axes=2,
        wraps_at=16,  # SCALING_BOOK
        source=("https://docs.cloud.google.com/tpu/docs/v5e", SCALING_BOOK),
    ),
    "v5p": Chip(
        name="v5p",
        peak_flops=459 * TERA,  # https://docs.cloud.google.com/tpu/docs/v5p-training
        hbm_bytes=95 * GIB,  # the same page
        usable_hbm_bytes=int(94 * GIB),  # the compiler allows 95.73, more than is published
        hbm_bytes_per_second=2765 * GIGA,  # the same page
        # SCALING_BOOK; the page above has 1200 GB/s per chip in both directions over 6 links, which makes 100.
        link_bytes_per_second=90 * GIGA,
        dcn_bytes_per_second=50 * GIGA / 8,  # the same page: 50 Gbit/s per chip
        # Follows from its rate: 8 matrix units (the same page) of 128 x 128 products a cycle.
        clock_hz=459 * TERA / (2 * 8 * 128 * 128),
        axes=3,
        wraps_at=4,  # the same page: slices are made of cubes of 4 x 4 x 4
        source=("https://docs.cloud.google.com/tpu/docs/v5p-training", SCALING_BOOK),
    ),
    "v6e": Chip(
        name="v6e",
        peak_flops=918 * TERA,  # https://docs.cloud.google.com/tpu/docs/v6e
        hbm_bytes=32 * GIB,  # the same page
        usable_hbm_bytes=int(31.24 * GIB),
        hbm_bytes_per_second=1638 * GIGA,  # the same page
        # SCALING_BOOK; the page above has 800 GB/s per chip in both directions over 4 links, which makes 100.
        link_bytes_per_second=90 * GIGA,
        dcn_bytes_per_second=100 * GIGA / 8,  # SCALING_BOOK
        clock_hz=None,
        axes=2,
        wraps_at=16,  # SCALING_BOOK
        source=("https://docs.cloud.google.com/tpu/docs/v6e", SCALING_BOOK),
    ),
}
