"""Sizes of networks as the gin files have them."""

import functools
from typing import Any

from audiolm_jax.training import experiment

_ENCODER_OF = {"kmeans_small": ["W2V_BERT=/nowhere"], "kmeans_librilight_paper": ["W2V_BERT=/nowhere"]}


@functools.cache
def learner_of(name: str) -> Any:
    """What an experiment trains; its data and its encoder are not looked for."""
    return experiment.load(name, _ENCODER_OF.get(name, []), "/nowhere")[0].learner
