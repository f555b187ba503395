"""A trained system in one folder: configurations, weights, fingerprints, figures, licence and model card."""

from audiolm_jax.bundle.bundle import Bundle, LanguageModel
from audiolm_jax.bundle.describe import describe, describe_in_words
from audiolm_jax.bundle.export import export_bundle, with_metrics, with_temperature
from audiolm_jax.bundle.manifest import TEMPERATURE

__all__ = [
    "TEMPERATURE",
    "Bundle",
    "LanguageModel",
    "describe",
    "describe_in_words",
    "export_bundle",
    "with_metrics",
    "with_temperature",
]
