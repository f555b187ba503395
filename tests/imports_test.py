"""Imports run along the data flow only, and stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "audiolm_jax"

# A module may import modules of its own package and of packages of a lower rank. Siblings do not know each other.
RANK = {
    "audio": 0,
    "spectral": 0,
    "codec": 1,
    "semantic": 1,
    "pretrained": 2,
    "tokens": 2,
    "data": 3,
    "lm": 4,
    "classifier": 4,
    "training": 5,
    "bundle": 6,
    "generation": 7,
    "page": 8,
    "check": 8,
    "evaluation": 9,
    "cli": 10,
}
# Leaves import nothing of ours but other leaves and may be imported from everywhere; of a package all modules are.
LEAVES = {
    "compilation_cache",
    "errors",
    "extras",
    "files",
    "fingerprint",
    "page.png",
    "ranges",
    "nearest",
    "training.state",
    "training.optimization.optimizers",
    "training.learner",
}
PARALLEL_IMPORTERS = {
    "spectral", "codec", "pretrained", "lm", "training", "generation", "check", "cli", "evaluation", "parallel"
}  # fmt: skip
# Needed for training only, so a plain installation has none of them.
EXTRAS_ONLY = (
    "tensorflow",
    "tensorflow_datasets",
    "seqio",
    "apache_beam",
    "tensorboard",
    "clu",
    "visqol",
    "jiwer",
    "pesq",
    "pystoi",
    "pocketsphinx",
    "torch",
    "transformers",
    "ai_edge_litert",
)


def module_name(path: Path) -> str:
    """Dotted name below the package; "" for the package's own __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_modules(name: str) -> set[str]:
    """Modules of ours that `name` imports anywhere, inside functions too."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"audiolm_jax.{name} uses a relative import in line {node.lineno}")
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "audiolm_jax":
            base = node.module.split(".", 1)[1] if "." in node.module else ""
            for alias in node.names:
                inner = f"{base}.{alias.name}" if base else alias.name
                found.add(inner if inner in MODULES else base)
        if isinstance(node, ast.Import):
            found |= {a.name.split(".", 1)[1] for a in node.names if a.name.startswith("audiolm_jax.")}
    return found - {""}


def is_leaf(name: str) -> bool:
    return name in LEAVES or name.split(".")[0] in LEAVES


def test_every_module_has_its_place_in_the_order():
    tops = {name.split(".")[0] for name in MODULES if name} - {"parallel"}
    assert tops <= set(RANK) | {leaf.split(".")[0] for leaf in LEAVES}


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_imports_run_along_the_data_flow(name):
    top = name.split(".")[0]
    for target in imported_modules(name):
        target_top = target.split(".")[0]
        edge = f"audiolm_jax.{name} imports audiolm_jax.{target}"
        if is_leaf(target):
            continue
        assert not is_leaf(name), f"{edge}: a leaf imports leaves only"
        if target_top == top:
            continue
        if target_top == "parallel":
            assert top in PARALLEL_IMPORTERS, edge
            continue
        assert top != "parallel", f"{edge}: parallel stands beside the data flow"
        assert RANK[target_top] < RANK[top], f"{edge}: a back edge"


def run_python(code: str) -> str:
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_starts_nothing():
    heavy = ("jax", "tensorflow", "numpy", "librosa", "soundfile", "grain", "gin")
    loaded = run_python(
        f"import sys, audiolm_jax; assert audiolm_jax.__version__; print([m for m in {heavy!r} if m in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_command_line_help_starts_neither_jax_nor_tensorflow():
    loaded = run_python(
        "import sys\nfrom audiolm_jax import cli\n"
        "try: cli.main(['generate', '--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('jax', 'tensorflow', 'librosa') if m in sys.modules])"
    )
    assert loaded.strip().endswith("[]")


def test_public_names_resolve():
    import audiolm_jax
    from audiolm_jax.audio import Waveform

    assert audiolm_jax.Waveform is Waveform
    assert set(audiolm_jax.__all__) <= set(dir(audiolm_jax))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = audiolm_jax.nothing


def test_all_but_the_training_data_imports_without_the_extras():
    """TensorFlow and the rest of the extras are hidden; what generation, bundles and evaluation need must import."""
    needs_extras = {
        "data.seqio.audio_tasks",
        "data.seqio.builders",
        "data.seqio.example_source",
        "data.seqio.pipeline",
        "data.seqio.prepare_tfds",
        "data.seqio.registration",
        "data.seqio.tfds_corpus",
        "data.seqio.tfds_crops",
        "data.seqio.tasks",
        "tokens.extraction.beam_engine",
        "tokens.extraction.beam_worker",
    }
    names = [f"audiolm_jax.{name}" for name in MODULES if name and name not in needs_extras]
    run_python(
        f"import sys\nfor name in {EXTRAS_ONLY!r}: sys.modules[name] = None\n"
        f"import importlib\nfor name in {names!r}: importlib.import_module(name)"
    )
