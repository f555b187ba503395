"""Python scripts of `launch/` as modules, for tests; they import one another as scripts do, by their bare names."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

LAUNCH = Path(__file__).parents[2] / "launch"


def load(name: str) -> ModuleType:
    """The module of launch/NAME.py."""
    if str(LAUNCH) not in sys.path:
        sys.path.append(str(LAUNCH))
    return importlib.import_module(name)
