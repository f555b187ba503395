"""Ranges of numbers as annotations: `steps: Count` is a whole number of at least 1.

They stand where a person reads what a setting is; `training.macros.settings` holds what a gin file sets to them.
"""

import dataclasses
import math
from typing import Annotated


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`, these two among them; without `least` itself if it is `open`.

    Whole numbers may have to be a multiple of another one.
    """

    least: float
    most: float = math.inf
    open: bool = False
    multiple_of: int = 1

    def __contains__(self, number: float) -> bool:
        above = self.least < number if self.open else self.least <= number
        return above and number <= self.most and (self.multiple_of == 1 or number % self.multiple_of == 0)

    def __str__(self) -> str:
        above = f"above {self.least}" if self.open else f"of at least {self.least}"
        multiple = "" if self.multiple_of == 1 else f" and a multiple of {self.multiple_of}"
        return above + ("" if self.most == math.inf else f" and at most {self.most}") + multiple


Count = Annotated[int, Range(1)]
Whole = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Positive = Annotated[float, Range(0, open=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
