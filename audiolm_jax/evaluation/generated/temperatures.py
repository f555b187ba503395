"""Temperatures of a system's stages, chosen on held-out prompts by what can be measured of what they make.

AudioLM draws with 0.6, 0.8 and 0.6 (section IV-A); what suits a system depends on its size and its training. Every
stage is tried by itself over a grid, as `stage_trial` says, the coarse one with the fine one at the temperature that
was chosen for it. Sounds are judged by the words that a recogniser hears in them where one is given (for the coarse
stage, which decides on what can be understood), else by ViSQOL, else by the distance of mel spectra. Of the semantic
stage the temperature is taken whose continuations are as surprising as true ones: at a low one it falls into silence or
repeats itself, at a high one it babbles.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audiolm_jax.bundle import Bundle
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.generated.stage_trial import StageTrial, TruePrompt, spoken_tokens, true_prompts
from audiolm_jax.evaluation.measurement import Measurement, versions
from audiolm_jax.evaluation.recordings import Recording
from audiolm_jax.evaluation.sound.visqol import VISQOL_MIN_SECONDS, visqol_is_installed, visqol_settings
from audiolm_jax.evaluation.words.asr import Recogniser
from audiolm_jax.files import replace_file
from audiolm_jax.files.plain_json import parse
from audiolm_jax.fingerprint import fingerprint
from audiolm_jax.generation.pipeline import PAPER_TEMPERATURES, STAGE_NUMBERS

FILE_NAME = "temperatures.json"
GRID = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# Of the figures of a stage the first that it has decides.
_DECIDES = {
    "semantic": ("surprise_gap",),
    "coarse": ("words_changed", "visqol", "log_mel_distance"),
    "fine": ("visqol", "log_mel_distance"),
}
_HIGHER_IS_BETTER = ("visqol",)


@dataclasses.dataclass(frozen=True)
class TemperatureSettings:
    """How temperatures are tried.

    Attributes:
        grid: those that are tried for every stage.
        prompt_seconds: how much of a recording is given.
        seconds: how much of it follows and is drawn anew.
        max_recordings: that are continued, shared out among the speakers.
        seed: of everything that is drawn.
    """

    grid: tuple[float, ...] = GRID
    prompt_seconds: float = 3.0
    seconds: float = 4.0
    max_recordings: int = 16
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "grid", tuple(sorted({float(temperature) for temperature in self.grid})))
        if not self.grid or not all(0 <= temperature < math.inf for temperature in self.grid):
            raise UserError(f"temperatures to try must be one or more numbers of at least 0, got {self.grid}")
        if not (self.prompt_seconds > 0 and self.seconds >= VISQOL_MIN_SECONDS and self.max_recordings >= 1):
            raise UserError(
                f"prompt_seconds must be more than 0, seconds at least {VISQOL_MIN_SECONDS:g} and max_recordings at "
                "least 1"
            )


def measure(
    bundle: Bundle,
    recordings: Sequence[Recording],
    output: str | Path,
    settings: TemperatureSettings = TemperatureSettings(),
    recogniser: Recogniser | None = None,
) -> Measurement:
    """The best temperature of every stage of a bundle; stopped at any moment and started again, it goes on.

    Args:
        bundle: the system.
        recordings: of speakers that it was not trained on, two at least; those that are long enough are continued.
        output: folder of what has been tried, temperatures.json.
        settings: how they are tried.
        recogniser: whose words decide on the coarse stage; None for none.

    Returns:
        Figures `temperature` (semantic, coarse, fine; the paper's for a stage that the bundle lacks) and of every stage
        and temperature what decides. Details: all figures that were tried.

    Raises:
        UserError: the bundle has no semantic or no coarse stage, there are no recordings of that length or no other
            speaker, or `output` holds what was tried with another bundle or other settings.
    """
    if missing := [name for name in ("semantic", "coarse") if name not in bundle.stages]:
        raise UserError(f"bundle {bundle.name} has no {' and no '.join(missing)} stage, so it cannot generate")
    trial = StageTrial(bundle, settings.prompt_seconds, settings.seed, recogniser)
    prompts = true_prompts(
        bundle, recordings, settings.prompt_seconds, settings.seconds, settings.max_recordings
    )
    tried = _Tried(Path(output), _identity(bundle, prompts, settings, recogniser))
    best: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    # The coarse stage is heard with the fine one, so that comes first.
    stages = [name for name in ("fine", "coarse", "semantic") if name in bundle.stages]
    with tqdm(total=len(stages) * len(settings.grid), desc="tried", disable=not sys.stderr.isatty()) as bar:
        for name in stages:
            speech, of_stage = None, []
            for temperature in settings.grid:
                bar.set_postfix_str(f"{name} {temperature:g}")
                with_fine = {"fine_temperature": best["fine"]} if name == "coarse" and "fine" in best else {}
                row = {"stage": name, "temperature": temperature, **with_fine}
                if (figures := tried.figures(row)) is None:
                    if name == "semantic":
                        speech = speech or spoken_tokens(bundle, recordings)
                        figures = trial.semantic(prompts, temperature, speech)
                    elif name == "coarse":
                        figures = trial.coarse(prompts, temperature, best.get("fine"))
                    else:
                        figures = trial.fine(prompts, temperature)
                    tried.add(row, figures)
                of_stage.append(row | figures)
                bar.update()
            best[name] = _best(of_stage)["temperature"]
            rows = of_stage + rows
    paper = dict(zip(STAGE_NUMBERS, PAPER_TEMPERATURES, strict=True))
    figures = {f"{row['stage']}_{_decides(row)}_at_{row['temperature']:g}": row[_decides(row)] for row in rows}
    return Measurement(
        metric="temperatures",
        figures={"temperature": [best.get(name, paper[name]) for name in STAGE_NUMBERS], **figures},
        counts={"recordings": len(prompts), "speakers": len({prompt.recording.speaker for prompt in prompts})},
        settings={
            "bundle": bundle.name,
            **dataclasses.asdict(settings),
            "asr": recogniser.name if recogniser else None,
            **(visqol_settings() if visqol_is_installed() else {}),
        },
        versions=versions("visqol-python", "jiwer"),
        details={"tried": rows},
    )


def _decides(row: Mapping[str, Any]) -> str:
    """The figure by which a stage is judged."""
    return next(name for name in _DECIDES[row["stage"]] if row.get(name) is not None)


def _best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The best row of a stage; of several that are as good the lowest temperature."""
    decides = _decides(rows[0])
    sign = -1 if decides in _HIGHER_IS_BETTER else 1
    return min(rows, key=lambda row: (sign * row[decides], row["temperature"]))


class _Tried:
    """What has been tried, in a file that grows with it."""

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self._path, self._identity = folder / FILE_NAME, identity
        self._figures: dict[str, dict[str, Any]] = {}
        try:
            old = parse(self._path.read_bytes())
            known, figures = dict(old["identity"]), dict(old["tried"])
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self._path} cannot be read; choose another --output") from error
        for name, value in json.loads(json.dumps(identity)).items():
            if known.get(name) != value:
                raise UserError(f"{folder} holds temperatures that were tried with other {name}; choose another "
                                "--output")
        self._figures = figures

    def figures(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was found of a stage at a temperature; None where it has not been tried."""
        return self._figures.get(json.dumps(row))

    def add(self, row: Mapping[str, Any], figures: dict[str, Any]) -> None:
        """Keeps what was found."""
        self._figures[json.dumps(row)] = figures
        plain = {"identity": self._identity, "tried": self._figures}
        replace_file(self._path, (json.dumps(plain, indent=1) + "\n").encode())


def _identity(
    bundle: Bundle, prompts: Sequence[TruePrompt], settings: TemperatureSettings, recogniser: Recogniser | None
) -> dict[str, Any]:
    """What the figures depend on beside stage and temperature: more of the grid can be tried later."""
    models = {name: fingerprint((lm.stage, lm.config), lm.params) for name, lm in bundle.language_models.items()}
    plain = dataclasses.asdict(settings)
    return {
        "bundle": {"codec": bundle.codec_fingerprint, "semantic": bundle.semantic_fingerprint, "stages": models},
        **{name: value for name, value in plain.items() if name != "grid"},
        "recordings": [prompt.recording.key for prompt in prompts],
        "recogniser": recogniser.version if recogniser else None,
        "visqol": visqol_settings() if visqol_is_installed() else None,
    }
