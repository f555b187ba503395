"""Published models in pure JAX: HuBERT and wav2vec 2.0, w2v-BERT 2.0, EnCodec, DAC, Mimi and Lyra V2.

    encoder = audiolm_jax.pretrained.load("work/hubert")  # what `audiolm import` wrote, or a Hugging Face folder
    features = encoder.features(samples, lengths, layer=9)
"""

from importlib import import_module

_MODULE_OF_NAME = {
    "ImportedModel": "audiolm_jax.pretrained.files.imported_model",
    "LoadedCodec": "audiolm_jax.pretrained.loaded",
    "LoadedEncoder": "audiolm_jax.pretrained.loaded",
    "export_huggingface": "audiolm_jax.pretrained.files.export",
    "load": "audiolm_jax.pretrained.loaded",
    "loaded": "audiolm_jax.pretrained.loaded",
    "read_huggingface": "audiolm_jax.pretrained.files.imported_model",
    "read_imported": "audiolm_jax.pretrained.files.imported_model",
    "write_imported": "audiolm_jax.pretrained.files.imported_model",
}

__all__ = sorted(_MODULE_OF_NAME)


def __getattr__(name):
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF_NAME[name]), name)


def __dir__():
    return __all__
