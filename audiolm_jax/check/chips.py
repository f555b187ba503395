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
        source: pages that state these numbers.
    """

    name: str
    peak_flops: float
    hbm_bytes: int
    usable_hbm_bytes: int
    hbm_bytes_per_second: float
    source: tuple[str, ...]


CHIPS = {
    "v4": Chip(
        name="v4",
        peak_flops=275 * TERA,  # https://docs.cloud.google.com/tpu/docs/v4
        hbm_bytes=32 * GIB,  # the same page
        usable_hbm_bytes=int(30.75 * GIB),
        hbm_bytes_per_second=1200 * GIGA,  # the same page
        source=("https://docs.cloud.google.com/tpu/docs/v4", "https://arxiv.org/abs/2304.01433", SCALING_BOOK),
    ),
    "v5e": Chip(
        name="v5e",
        peak_flops=197 * TERA,  # https://docs.cloud.google.com/tpu/docs/v5e
        hbm_bytes=16 * GIB,  # the same page
        usable_hbm_bytes=int(15.75 * GIB),
        hbm_bytes_per_second=819 * GIGA,  # the same page
        source=("https://docs.cloud.google.com/tpu/docs/v5e", SCALING_BOOK),
    ),
    "v5p": Chip(
        name="v5p",
        peak_flops=459 * TERA,  # https://docs.cloud.google.com/tpu/docs/v5p-training
        hbm_bytes=95 * GIB,  # the same page
        usable_hbm_bytes=int(94 * GIB),  # the compiler allows 95.73, more than is published
        hbm_bytes_per_second=2765 * GIGA,  # the same page
        source=("https://docs.cloud.google.com/tpu/docs/v5p-training", SCALING_BOOK),
    ),
    "v6e": Chip(
        name="v6e",
        peak_flops=918 * TERA,  # https://docs.cloud.google.com/tpu/docs/v6e
        hbm_bytes=32 * GIB,  # the same page
        usable_hbm_bytes=int(31.24 * GIB),
        hbm_bytes_per_second=1638 * GIGA,  # the same page
        source=("https://docs.cloud.google.com/tpu/docs/v6e", SCALING_BOOK),
    ),
}
