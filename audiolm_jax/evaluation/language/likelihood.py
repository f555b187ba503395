"""From recordings to scores: how likely the semantic stage of a bundle finds each of them (AudioLM, section IV-D).

A recording becomes semantic tokens, repeats are collapsed as the stage does in training, and the score is the sum of
log p(token | tokens before), in nats, and that divided by the number of tokens. The first token counts, given nothing.
EOS does not: a training crop rarely ends where a recording does, and the tokens that were given are what is scored.

More tokens than a training crop holds, W, are scored in windows of W tokens that end W / 2 apart, the last one where
the tokens do; a window after the first scores only what the one before it has not. So every token is scored once, with
at least W / 2 tokens before it or all there are.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from audiolm_jax.audio import Waveform, audio_files, read_audio, resample
from audiolm_jax.bundle import Bundle, LanguageModel
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.language.gold import bare_stem
from audiolm_jax.evaluation.language.perplexity import batch_nats
from audiolm_jax.evaluation.language.scores import ScoredRecording, ScoreFile, Scores, hash_of_tokens
from audiolm_jax.evaluation.named_files import by_stem, only
from audiolm_jax.fingerprint import fingerprint
from audiolm_jax.tokens.alignment import collapse
from audiolm_jax.tokens.layout import PAD, SEMANTIC
from audiolm_jax.tokens.records import TokenRecord
from audiolm_jax.tokens.stages import Stage

# Batches are padded to a power of two of tokens, at least this many, so that few programs are compiled.
_SHORTEST_TOKENS = 32
# Recordings between two additions to the score file, in batches; a stop loses at most so many.
_CHUNK_BATCHES = 8
_READING_THREADS = 4


class _Found(NamedTuple):
    """Semantic tokens int[T] of a recording, every frame, and the rate of its file."""

    stem: str
    tokens: np.ndarray
    sample_rate_hz: int


def longest_window(stage: Stage) -> int:
    """W, the most tokens that are scored at once: those of a training crop, without EOS."""
    return stage.max_target_length - int(stage.target_eos)


def sequence_log_likelihoods(
    language_model: LanguageModel, sequences: Sequence[np.ndarray], batch_size: int = 16
) -> list[float]:
    """log p of token sequences under a stage without prefix, in nats, without EOS.

    Args:
        language_model: of the semantic stage.
        sequences: int[N] codes each, repeats collapsed where the stage collapses them, at least one.
        batch_size: windows that are scored at once; changes nothing beyond rounding.

    Returns:
        One sum for every sequence.
    """
    stage = language_model.stage
    windows = [
        (owner, ids, scored)
        for owner, sequence in enumerate(sequences)
        for ids, scored in _windows(stage.layout.encode(SEMANTIC, 0, np.asarray(sequence)), longest_window(stage))
    ]
    # Windows of one length together, so that little is padded.
    windows.sort(key=lambda window: (len(window[1]), window[0]))
    totals = np.zeros(len(sequences))
    start = 0
    while start < len(windows):
        length = _padded_length(len(windows[start][1]), longest_window(stage))
        rows = [window for window in windows[start : start + batch_size] if len(window[1]) <= length]
        ids = np.full((batch_size, length), PAD, np.int32)
        weights = np.zeros((batch_size, length), np.float32)
        for row, (_, window, scored) in enumerate(rows):
            ids[row, : len(window)] = window
            weights[row, len(window) - scored : len(window)] = 1
        sums = batch_nats(language_model.model, language_model.params, {"ids": ids, "loss_weights": weights})
        np.subtract.at(totals, [owner for owner, _, _ in rows], sums.nats[: len(rows), 0])
        start += len(rows)
    return totals.tolist()


def _windows(ids: np.ndarray, longest: int) -> Iterator[tuple[np.ndarray, int]]:
    """(ids of a window, how many of its last ones are scored) of one sequence, so that each id is scored once."""
    yield ids[:longest], min(len(ids), longest)
    hop = max(longest // 2, 1)
    done = longest
    while done < len(ids):
        until = min(done + hop, len(ids))
        yield ids[until - longest : until], until - done
        done = until


def _padded_length(num_tokens: int, longest: int) -> int:
    length = _SHORTEST_TOKENS
    while length < num_tokens:
        length *= 2
    return min(length, longest)


def score_folder(
    bundle: Bundle,
    wavs_dir: str | Path,
    stems: Sequence[str],
    output: str | Path | None = None,
    batch_size: int = 16,
) -> Scores:
    """Scores recordings of a folder with the semantic stage of a bundle; started again, it goes on where it was.

    Args:
        bundle: with a semantic stage.
        wavs_dir: the recordings, `STEM.wav` or any other audio format, in the folder or below it, at any rate.
        stems: which of them.
        output: where scores are kept as they are made, see `scores.ScoreFile`; None keeps them in memory alone.
        batch_size: sequences that are scored at once.

    Raises:
        UserError: the bundle has no semantic stage, a recording is missing, twice there or cannot be read, or `output`
            holds scores that were made in another way.
    """
    paths = _find(wavs_dir, stems)
    semantic_params = jax.device_put(bundle.semantic_params)
    rate_hz = bundle.semantic.sample_rate_hz

    def read(stem: str) -> tuple[str, Waveform, int]:
        waveform = read_audio(paths[stem])
        return stem, resample(waveform, rate_hz), waveform.sample_rate_hz

    def found(wanted: Sequence[str]) -> Iterator[_Found]:
        with ThreadPoolExecutor(_READING_THREADS) as pool:
            ahead = 4 * _READING_THREADS
            waiting = [pool.submit(read, stem) for stem in wanted[:ahead]]
            for position in range(len(wanted)):
                stem, waveform, file_rate_hz = waiting.pop(0).result()
                if position + ahead < len(wanted):
                    waiting.append(pool.submit(read, wanted[position + ahead]))
                tokens = bundle.semantic.tokenize(semantic_params, waveform.samples[None])[0]
                yield _Found(stem, tokens, file_rate_hz)

    return _score(bundle, sorted(stems), found, output, batch_size, {"wavs": _last_folders(wavs_dir)})


def score_records(
    bundle: Bundle,
    records: Iterable[TokenRecord],
    stems: Sequence[str],
    output: str | Path | None = None,
    batch_size: int = 16,
) -> Scores:
    """The same of recordings that `audiolm tokenize` has made tokens of.

    Args:
        bundle: with a semantic stage.
        records: made with its tokenizers; the last part of a record's key is its stem. Others than `stems` are left.
        stems, output, batch_size: as for `score_folder`.

    Raises:
        UserError: as `score_folder`, or records are of another semantic tokenizer.
    """
    wanted = set(stems)
    by_stem: dict[str, TokenRecord] = {}
    for record in records:
        stem = bare_stem(record.key)
        if stem not in wanted:
            continue
        if record.semantic_fingerprint != bundle.semantic_fingerprint:
            raise UserError(f"the tokens of {record.key} are not of bundle {bundle.name}; tokenize them with it")
        if stem in by_stem:
            raise UserError(f"two records are called {stem}: {by_stem[stem].key} and {record.key}; keep one")
        by_stem[stem] = record
    missing = sorted(wanted - set(by_stem))
    if missing:
        raise UserError(
            f"{len(missing)} of {len(wanted)} recordings have no tokens, the first is {missing[0]}; tokenize them all"
        )

    def found(chosen: Sequence[str]) -> Iterator[_Found]:
        for stem in chosen:
            yield _Found(stem, by_stem[stem].semantic_tokens, bundle.semantic.sample_rate_hz)

    return _score(bundle, sorted(wanted), found, output, batch_size, {})


def _score(
    bundle: Bundle,
    stems: Sequence[str],
    found: Callable[[Sequence[str]], Iterator[_Found]],
    output: str | Path | None,
    batch_size: int,
    source: Mapping[str, str],
) -> Scores:
    """Scores `stems`, of which `found(some of them)` yields the tokens in that order; `source` tells where they lie."""
    if "semantic" not in bundle.language_models:
        raise UserError(f"bundle {bundle.name} has no semantic stage, which scores need; name another --bundle")
    language_model = bundle.language_models["semantic"]
    settings = scoring_settings(bundle) | source
    file = None if output is None else ScoreFile(output, settings)
    done: dict[str, ScoredRecording] = dict(file.done) if file else {}
    # Equal tokens get the very same score, so that a tie is a tie whatever was computed beside it.
    known = {line.tokens_hash: line.log_likelihood for line in done.values()}
    missing = [stem for stem in stems if stem not in done]
    progress = tqdm(
        total=len(stems), initial=len(stems) - len(missing), desc="scoring", disable=not sys.stderr.isatty()
    )
    chunk: list[_Found] = []

    def finish() -> None:
        lines = _score_chunk(language_model, chunk, known, batch_size)
        done.update({line.stem: line for line in lines})
        if file:
            file.add(lines)
        chunk.clear()

    with progress:
        for item in found(missing):
            chunk.append(item)
            progress.update()
            if len(chunk) == _CHUNK_BATCHES * batch_size:
                finish()
        if chunk:
            finish()
    lines = [done[stem] for stem in stems]
    return Scores(
        main={line.stem: line.per_token for line in lines},
        raw={line.stem: line.log_likelihood for line in lines},
        settings={**settings, **({"scores": str(output)} if output is not None else {})},
        notes=_notes(lines, bundle),
    )


def _score_chunk(
    language_model: LanguageModel, chunk: Sequence[_Found], known: dict[str, float], batch_size: int
) -> list[ScoredRecording]:
    """Scores of one chunk; adds to `known`, log-likelihood by hash of the collapsed tokens."""
    collapsed = [collapse(item.tokens)[0] if language_model.stage.collapse_repeats else item.tokens for item in chunk]
    hashes = [hash_of_tokens(tokens) for tokens in collapsed]
    new = {name: tokens for name, tokens in zip(hashes, collapsed, strict=True) if name not in known}
    known |= dict(zip(new, sequence_log_likelihoods(language_model, list(new.values()), batch_size), strict=True))
    return [
        ScoredRecording(item.stem, known[name], len(tokens), name, item.sample_rate_hz)
        for item, tokens, name in zip(chunk, collapsed, hashes, strict=True)
    ]


def scoring_settings(bundle: Bundle) -> dict[str, Any]:
    """Everything that a score depends on but the recording itself."""
    language_model = bundle.language_models["semantic"]
    stage = language_model.stage
    return {
        "bundle": bundle.name,
        "semantic_fingerprint": bundle.semantic_fingerprint,
        "language_model_fingerprint": fingerprint((stage, language_model.config), language_model.params),
        "log_likelihood": "nats of the semantic tokens, the first one included, EOS not",
        "repeats_collapsed": stage.collapse_repeats,
        "window_tokens": longest_window(stage),
        "window_hop_tokens": max(longest_window(stage) // 2, 1),
    }


def _notes(lines: Sequence[ScoredRecording], bundle: Bundle) -> tuple[str, ...]:
    rate_hz = bundle.semantic.sample_rate_hz
    longest = longest_window(bundle.language_models["semantic"].stage)
    resampled = sum(line.sample_rate_hz != rate_hz for line in lines)
    windowed = sum(line.num_tokens > longest for line in lines)
    notes = []
    if resampled:
        notes.append(f"{resampled} of {len(lines)} recordings were resampled to {rate_hz} Hz")
    if windowed:
        notes.append(f"{windowed} of {len(lines)} recordings, of more than {longest} tokens, were scored in windows")
    return tuple(notes)


def _find(wavs_dir: str | Path, stems: Sequence[str]) -> dict[str, Path]:
    """The file of every stem."""
    wanted, found = set(stems), by_stem(audio_files(wavs_dir))
    if missing := sorted(wanted - set(found)):
        raise UserError(
            f"{len(missing)} of {len(wanted)} recordings are not in {wavs_dir}, the first is {missing[0]}; give --wavs "
            "the folder that belongs to the gold file"
        )
    return {stem: only(found, stem) for stem in sorted(wanted)}


def _last_folders(path: str | Path) -> str:
    """The last two parts of a folder's path, such as lexical/dev, which tell data sets apart on any machine."""
    return "/".join(Path(path).resolve().parts[-2:])
