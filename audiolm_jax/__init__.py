"""AudioLM in JAX and Flax.

    import audiolm_jax as alm
    lm = alm.AudioLM.load("small")
    continuation = lm.generate(alm.read_audio("prompt.wav"), mode="continuation", seconds=4.0, seed=0)

Importing the package starts neither JAX nor TensorFlow; the names below are imported when they are first used.
"""

from importlib import import_module

__version__ = "0.1.0"

_MODULE_OF_NAME = {
    "AudioLM": "audiolm_jax.generation.pipeline",
    "UserError": "audiolm_jax.errors",
    "Waveform": "audiolm_jax.audio",
    "read_audio": "audiolm_jax.audio",
    "write_audio": "audiolm_jax.audio",
}

__all__ = ["AudioLM", "UserError", "Waveform", "__version__", "pretrained", "read_audio", "write_audio"]


def __getattr__(name):
    if name == "pretrained":
        return import_module("audiolm_jax.pretrained")
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF_NAME[name]), name)


def __dir__():
    return sorted(__all__)
