"""One HTML page to hear and see a generation: players, waveforms, spectrograms and tokens, with nothing to load."""

import base64
import math
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from audiolm_jax.audio import Waveform, cut, encode_audio, resample
from audiolm_jax.bundle import Bundle
from audiolm_jax.generation.pipeline import ACOUSTIC, CONTINUATION, UNCONDITIONAL, Generation, Request
from audiolm_jax.page.png import VIRIDIS, colour, encode_png

DYNAMIC_RANGE_DB = 70.0
PLAYER_HINT = "Press play, or select a point in a plot to hear it from there."
_NUM_MELS = 96
_MOST_COLUMNS = 1600


class _Words(NamedTuple):
    """How a page speaks of a mode; the heading holds {} for the prompt's name."""

    heading: str
    title: str
    lede: str


_WORDS = {
    CONTINUATION: _Words(
        "Continuation of {}",
        "Continuation",
        "What comes before the line was given and what comes after it was generated, token by token.",
    ),
    ACOUSTIC: _Words(
        "Another voice for {}",
        "New voice",
        "The semantic tokens of the recording were kept; voice and recording conditions were generated anew.",
    ),
    UNCONDITIONAL: _Words("Speech out of nothing", "Sample", "All of it was generated, token by token."),
}


@dataclass(frozen=True)
class TokenScales:
    """What the token plots need to know of the tokenizers: frames per second, and how many codes there are."""

    semantic_hz: float
    semantic_vocab: int
    acoustic_hz: float
    codebook_size: int
    num_coarse_quantizers: int


@dataclass(frozen=True, eq=False)
class Clip:
    """One card of the page.

    Attributes:
        title: heading of the card.
        waveform: the sound.
        prompt_seconds: how much of its start was given; 0 where all of it is generated, the whole length where
            all of it is given.
        semantic_tokens: int[T_s] clusters at the full rate, or None.
        acoustic_tokens: int[T_a, Q] codes, or None.
        note: one sentence under the heading.
    """

    title: str
    waveform: Waveform
    prompt_seconds: float = 0.0
    semantic_tokens: np.ndarray | None = None
    acoustic_tokens: np.ndarray | None = None
    note: str = ""


def generation_page(
    bundle: Bundle, request: Request, generations: list[Generation], prompt_name: str, took_seconds: float
) -> bytes:
    """The page of what `AudioLM.generations(request)` gave, the prompt as it was recorded first."""
    codec, semantic = bundle.codec, bundle.semantic
    scales = TokenScales(
        semantic_hz=semantic.sample_rate_hz / semantic.hop_samples,
        semantic_vocab=semantic.vocab_size,
        acoustic_hz=codec.sample_rate_hz / codec.hop_samples,
        codebook_size=codec.codebook_size,
        num_coarse_quantizers=bundle.stages[bundle.coarse_stage_name].target.num_levels,
    )
    words = _WORDS[request.mode]
    numbers = [f" {made.sample_index + 1}" if len(generations) > 1 else "" for made in generations]
    clips = [
        Clip(
            words.title + number,
            made.waveform,
            made.prompt_seconds,
            made.semantic_tokens if "semantic" in bundle.stages else None,
            made.acoustic_tokens,
        )
        for number, made in zip(numbers, generations, strict=True)
    ]
    if request.prompt is not None:
        used_seconds = request.prompt_seconds if request.mode == CONTINUATION else request.seconds
        prompt = resample(cut(request.prompt, used_seconds), codec.sample_rate_hz)
        clips.insert(0, Clip("Prompt", prompt, prompt.seconds, note="As recorded, before the codec."))
    facts = {
        "bundle": bundle.name,
        "mode": request.mode,
        "seed": str(request.seed),
        "temperature": ", ".join(f"{draw.temperature:g}" for draw in request.sampling.values()),
        "sample rate": f"{codec.sample_rate_hz / 1000:g} kHz",
        "generated in": f"{took_seconds:.1f} s",
        "licence of the weights": bundle.licence,
    }
    # The name of a file need not be text; what is none is shown as a question mark.
    return page(clips, scales, words.heading.format(prompt_name), words.lede, facts).encode("utf-8", "replace")


def page(clips: list[Clip], scales: TokenScales, heading: str, lede: str, facts: dict[str, str]) -> str:
    """The page as HTML: a card for every clip under a heading, one sentence and a row of facts (name -> value).

    Sound and pictures are inside the file, so it can be moved, mailed and opened without network.
    """
    cards = "\n".join(_card(clip, scales, f"clip{index}") for index, clip in enumerate(clips))
    body = f"{header(heading, lede, facts)}\n{cards}\n<footer>{PLAYER_HINT}</footer>"
    return document(heading, body, packaged_text("listening_page.css"), packaged_text("listening_page.js"))


def packaged_text(name: str) -> str:
    """A text file that lies beside this one."""
    return files("audiolm_jax.page").joinpath(name).read_text(encoding="utf-8")


def header(heading: str, lede: str, facts: dict[str, str]) -> str:
    """The head of a page: heading, one sentence, and a row of facts (name -> value)."""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f"""<header>
<h1>{escape(heading)}</h1>
<p class="lede">{escape(lede)}</p>
<dl class="facts">{rows}</dl>
</header>"""


def document(title: str, body: str, style: str, script: str) -> str:
    """A whole HTML page that loads nothing."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
<script>
{script}</script>
</body>
</html>
"""


def _card(clip: Clip, scales: TokenScales, name: str) -> str:
    plots = [_waveform_plot(clip), spectrogram_plot(clip)]
    if clip.semantic_tokens is not None:
        plots.append(_semantic_plot(clip, scales))
    if clip.acoustic_tokens is not None:
        plots.append(_acoustic_plot(clip, scales))
    note = f"<p>{escape(clip.note)}</p>" if clip.note else ""
    return f"""<article aria-labelledby="{name}">
<h2 id="{name}">{escape(clip.title)} <span>{clip.waveform.seconds:.2f} s</span></h2>
{note}
{player(clip)}
{_legend(clip)}
{"".join(plots)}
{time_axis(clip.waveform.seconds)}
</article>"""


def player(clip: Clip) -> str:
    """The sound with a browser's own controls; WAV of 16 bits, the one format that every browser plays."""
    sound = base64.b64encode(encode_audio(clip.waveform)).decode("ascii")
    label = escape(clip.title)
    return f'<audio controls preload="metadata" aria-label="{label}" src="data:audio/wav;base64,{sound}"></audio>'


def _legend(clip: Clip) -> str:
    prompt, seconds = min(clip.prompt_seconds, clip.waveform.seconds), clip.waveform.seconds
    parts = []
    if prompt > 0:
        parts.append(f'<li><i class="given"></i>prompt, {prompt:.2f} s</li>')
    if prompt < seconds:
        parts.append(f'<li><i class="made"></i>generated, {seconds - prompt:.2f} s</li>')
    if 0 < prompt < seconds:
        parts.append('<li><i class="end"></i>end of the prompt</li>')
    return f'<ul class="legend">{"".join(parts)}</ul>'


def _plot(clip: Clip, kind: str, title: str, unit: str, alt: str, ticks: list, inner: str, key: str = "") -> str:
    """One plot: a column of ticks at (height from the bottom in 0..1, label), beside the area with `inner`."""
    seconds = clip.waveform.seconds
    labels = "".join(f'<b style="bottom:{100 * at:.2f}%">{escape(label)}</b>' for at, label in ticks)
    end = ""
    if 0 < clip.prompt_seconds < seconds:
        end = f'<i class="end" style="left:{100 * clip.prompt_seconds / seconds:.3f}%"></i>'
        alt = f"{alt} The prompt ends at {clip.prompt_seconds:.2f} s."
    return f"""<figure class="{kind}">
<figcaption><span>{title} <small>{unit}</small></span>{key}</figcaption>
<div class="frame"><div class="ticks" aria-hidden="true">{labels}</div>
<div class="area" role="img" aria-label="{escape(alt)}">{inner}{end}<i class="cursor"></i></div></div>
</figure>
"""


def time_axis(seconds: float) -> str:
    """Seconds below plots."""
    step = nice_step(seconds, most_steps=10)
    count = int(seconds / step + 1e-6)
    digits = max(0, -math.floor(math.log10(step)))
    times = [index * step for index in range(count + 1)]
    labels = "".join(f'<b style="left:{100 * time / seconds:.3f}%">{time:.{digits}f}</b>' for time in times)
    return f'<div class="time" aria-hidden="true"><div>{labels}</div><span>time in seconds</span></div>'


def nice_step(span: float, most_steps: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that divides `span` into at most `most_steps` steps."""
    power = 10.0 ** math.floor(math.log10(span / most_steps))
    return next(scale * power for scale in (1, 2, 5, 10) if span / (scale * power) <= most_steps + 1e-9)


def _waveform_plot(clip: Clip) -> str:
    samples, seconds = clip.waveform.samples, clip.waveform.seconds
    peak = float(np.max(np.abs(samples), initial=0.0))
    top = next((level for level in (0.1, 0.2, 0.5) if peak <= level), 1.0)
    buckets = np.array_split(samples, min(_MOST_COLUMNS, len(samples)))
    lows = np.array([bucket.min() for bucket in buckets]) / top
    highs = np.array([bucket.max() for bucket in buckets]) / top
    split = round(len(buckets) * min(1.0, clip.prompt_seconds / seconds))
    # One bucket of overlap, so that the two colours meet.
    parts = [("given", 0, split), ("made", max(0, split - 1), len(buckets))]
    paths = "".join(
        f'<path class="{kind}" d="{_envelope(lows[start:stop], highs[start:stop], start)}"/>'
        for kind, start, stop in parts
        if stop - start > 1
    )
    inner = f'<svg viewBox="0 -100 {len(buckets)} 200" preserveAspectRatio="none" aria-hidden="true">{paths}</svg>'
    alt = f"Waveform over {seconds:.2f} seconds with a peak of {peak:.2f} of full scale."
    ticks = [(0.0, f"−{top:g}"), (0.5, "0"), (1.0, f"{top:g}")]
    return _plot(clip, "wave", "Waveform", "amplitude, full scale is 1", alt, ticks, inner)


def _envelope(lows: np.ndarray, highs: np.ndarray, start: int) -> str:
    """A closed path along the highs and back along the lows, y downwards in -100..100."""
    columns = np.arange(start, start + len(highs))
    there = [f"{x} {-100 * y:.1f}" for x, y in zip(columns, np.maximum(highs, lows + 0.004), strict=True)]
    back = [f"{x} {-100 * y:.1f}" for x, y in zip(columns[::-1], lows[::-1], strict=True)]
    return "M" + "L".join(there + back) + "Z"


def spectrogram(waveform: Waveform, most_columns: int = _MOST_COLUMNS) -> np.ndarray:
    """Log-mel levels in dB below the loudest point, float32[num_mels, F], clipped at -DYNAMIC_RANGE_DB; F is at most
    about `most_columns`."""
    from audiolm_jax.spectral import log_mel

    rate_hz, samples = waveform.sample_rate_hz, waveform.samples
    window_samples = round(0.032 * rate_hz)
    hop_samples = max(round(0.008 * rate_hz), len(samples) // most_columns)
    padded = np.pad(samples, (window_samples // 2, window_samples))
    fft_samples = 2 ** math.ceil(math.log2(2 * window_samples))
    levels = np.asarray(log_mel(padded[None], rate_hz, window_samples, hop_samples, _NUM_MELS, fft_samples))[0]
    levels_db = levels[: -(-len(samples) // hop_samples)].T * (20 / math.log(10))
    return np.maximum(levels_db - levels_db.max(), -DYNAMIC_RANGE_DB)


def spectrogram_plot(clip: Clip, most_columns: int = _MOST_COLUMNS) -> str:
    """The log-mel spectrogram of a clip with its axes; fewer columns make a smaller picture."""
    levels_db = spectrogram(clip.waveform, most_columns)
    nyquist_hz = clip.waveform.sample_rate_hz / 2
    ticks = [
        (_mel(hz) / _mel(nyquist_hz), f"{hz / 1000:g}")
        for hz in (0, 1000, 2000, 4000, 8000, 16000)
        if hz <= nyquist_hz
    ]
    seconds = clip.waveform.seconds
    alt = f"Log-mel spectrogram of {clip.title}, 0 to {nyquist_hz / 1000:g} kHz over {seconds:.2f} seconds."
    key = f'<span class="key">−{DYNAMIC_RANGE_DB:g} dB<i class="ink"></i>0 dB</span>'
    inner = _picture(colour(1 + levels_db[::-1] / DYNAMIC_RANGE_DB))
    return _plot(clip, "spectrum", "Log-mel spectrogram", "frequency in kHz", alt, ticks, inner, key)


def _mel(hz: float) -> float:
    return math.log10(1 + hz / 700)


def _semantic_plot(clip: Clip, scales: TokenScales) -> str:
    tokens = np.asarray(clip.semantic_tokens)
    seconds = clip.waveform.seconds
    split = clip.prompt_seconds * scales.semantic_hz
    marks = {"given": [], "made": []}
    for frame, token in enumerate(tokens.tolist()):
        marks["given" if frame < split else "made"].append(f"M{frame} {scales.semantic_vocab - 1 - token}h1")
    paths = "".join(f'<path class="{kind}" d="{"".join(parts)}"/>' for kind, parts in marks.items() if parts)
    inner = (
        f'<svg viewBox="0 {-0.02 * scales.semantic_vocab:g} {max(seconds * scales.semantic_hz, 1e-3):.3f} '
        f'{1.04 * scales.semantic_vocab:g}" preserveAspectRatio="none" aria-hidden="true">{paths}</svg>'
    )
    kinds = len(np.unique(tokens))
    alt = f"{len(tokens)} semantic tokens, {kinds} different ones, as dashes at the height of their number."
    last = scales.semantic_vocab - 1
    ticks = [(0.02, "0"), (0.5, f"{scales.semantic_vocab // 2}"), (0.98, f"{last}")]
    unit = f"cluster number, {scales.semantic_hz:g} per second"
    return _plot(clip, "semantic", "Semantic tokens", unit, alt, ticks, inner)


def _acoustic_plot(clip: Clip, scales: TokenScales) -> str:
    tokens = np.asarray(clip.acoustic_tokens)
    frames, levels = tokens.shape
    pixels = colour(tokens.T / max(1, scales.codebook_size - 1), VIRIDIS)
    width = 100 * frames / (clip.waveform.seconds * scales.acoustic_hz)
    coarse = min(scales.num_coarse_quantizers, levels)
    border = f'<i class="border" style="top:{100 * coarse / levels:.2f}%"></i>' if coarse < levels else ""
    every = 1 if levels <= 6 else 2 if levels <= 12 else 4
    ticks = [(1 - (level + 0.5) / levels, f"{level + 1}") for level in range(0, levels, every)]
    names = f"levels 1–{coarse} coarse" + (f", {coarse + 1}–{levels} fine" if coarse < levels else "")
    alt = f"Acoustic tokens: {frames} frames of {levels} codes, {names}, coloured by code number."
    key = f'<span class="key">code 0<i class="code"></i>{scales.codebook_size - 1}</span>'
    unit = f"{names}, {scales.acoustic_hz:g} frames per second"
    return _plot(clip, "acoustic", "Acoustic tokens", unit, alt, ticks, _picture(pixels, width) + border, key)


def _picture(pixels: np.ndarray, width_percent: float = 100.0) -> str:
    data = base64.b64encode(encode_png(pixels)).decode("ascii")
    return f'<img alt="" style="width:{width_percent:.3f}%" src="data:image/png;base64,{data}">'
