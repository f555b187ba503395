"""Which extra of the installation brings which package, so that its absence can be told in one line."""

_EXTRA_OF_PACKAGE = {
    "apache_beam": "train",
    "grpc": "train",
    "seqio": "train",
    "tensorflow": "train",
    "tensorflow_datasets": "train",
    "tensorboard": "train",
    "visqol": "eval",
    "jiwer": "eval",
    "pocketsphinx": "eval",
    "faster_whisper": "whisper",
    "transformers": "asr",
    "torch": "asr",
    "pesq": "quality",
    "pystoi": "quality",
    "ai_edge_litert": "lyra",
}


def how_to_install(error: ModuleNotFoundError) -> str | None:
    """ "this needs visqol; install it with: ..." for a package of an extra; None for any other, which is a bug."""
    package = (error.name or "").split(".")[0]
    return f"this needs {error.name}; {remedy(package)}" if package in _EXTRA_OF_PACKAGE else None


def remedy(package: str) -> str:
    """ "install it with: ..." for a package of an extra."""
    return f"install it with: pip install 'audiolm_jax[{_EXTRA_OF_PACKAGE[package]}]'"
