#!/usr/bin/env python3
"""What an AudioLM on 60,000 hours of speech costs: bytes, chip-hours, checkpoints. The tables of docs/scale.md.

    python benchmarks/scale.py                          everything but what the flags below add
    python benchmarks/scale.py storage extraction       some of it: storage, extraction, training, checkpoints
    python benchmarks/scale.py storage --tokens DIR     also the bytes of real token records
    python benchmarks/scale.py extraction --cpu         also times both tokenizers of the paper's size on this CPU
    python benchmarks/scale.py training --checks DIR    also the step times of DIR/*.json of benchmarks/tpu_roofline.py
    python benchmarks/scale.py machines                 the table of docs/training.md: days on GPUs
    python benchmarks/scale.py checkpoints --write DIR  also saves and reads one of 2 GB in DIR

Multiplications and additions are counted from the traced programs (`audiolm_jax.check.flops`), chips' rates are those
of `audiolm_jax.check.chips`. No accelerator and no libtpu is needed.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import soundfile

from audiolm_jax.check.chips import CHIPS, GIB
from audiolm_jax.check.flops import count_flops
from audiolm_jax.codec.soundstream import SoundStream, SoundStreamConfig
from audiolm_jax.semantic import w2v_bert
from audiolm_jax.semantic.tokenizer import SemanticTokenizerConfig
from audiolm_jax.tokens.records import TokenRecord, encode_record, write_records
from audiolm_jax.training import experiment
from audiolm_jax.training.learner import phase_of, step_of_phase
from audiolm_jax.training.saved.checkpoints import Checkpoints

SECTIONS = ("storage", "extraction", "training", "machines", "checkpoints")
HOURS = 60_000
SECONDS = HOURS * 3600
# Libri-Light's own README: hours and bytes of its three parts, FLAC of 16 kHz.
LIBRI_LIGHT = {"small": (577, 35e9), "medium": (5193, 321e9), "large": (51_934, 3.05e12)}
SEGMENT_SECONDS = 60  # of a record
# Experiment with its settings, and the share of a chip's peak that it is taken to reach. Most of a codec's convolutions
# have 32 to 128 channels and leave most of a matrix unit idle.
TRAININGS = {
    "codec_librilight_paper": 0.05,
    "w2v_bert_xl_librilight_paper": 0.4,
    "kmeans_librilight_paper": 0.4,
    "semantic_librilight_paper": 0.5,
    "coarse_librilight_paper": 0.5,
    "fine_librilight_paper": 0.5,
    "semantic_librilight_paper NUM_LAYERS=24": 0.5,
    "coarse_librilight_paper NUM_LAYERS=24": 0.5,
    "fine_librilight_paper NUM_LAYERS=24": 0.5,
}
CODEC_MFU, ENCODER_MFU = TRAININGS["codec_librilight_paper"], TRAININGS["kmeans_librilight_paper"]
STAGES = ("semantic", "coarse", "fine")
PAPER_CHIPS = 16
# Name: how many, and bfloat16 multiplications and additions a second of each without sparsity.
MACHINES = {
    "one A100": (1, 312e12),  # https://www.nvidia.com/en-us/data-center/a100/
    "8 A100": (8, 312e12),
    "8 H100": (8, 989e12),  # https://www.nvidia.com/en-us/data-center/h100/, SXM
    f"{PAPER_CHIPS} v4": (PAPER_CHIPS, CHIPS["v4"].peak_flops),
}
MEASURED_CHECKPOINT = "semantic_librilight_paper"


def table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Prints a Markdown table."""
    print("| " + " | ".join(header) + " |")
    print("|" + "|".join("---" if place == 0 else "---:" for place in range(len(header))) + "|")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)


def amount(value: float, unit: str) -> str:
    """A number with its unit and the prefix that leaves one to three digits before the point: "3.42 TB"."""
    for prefix, size in (("Z", 1e21), ("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def storage(tokens_dir: str | None) -> None:
    """Bytes of audio, tokens and records."""
    hours = sum(part[0] for part in LIBRI_LIGHT.values())
    flac_bytes = sum(part[1] for part in LIBRI_LIGHT.values())
    semantic, codec = paper_sizes()
    semantic_hz = w2v_bert.SAMPLE_RATE_HZ / w2v_bert.HOP_SAMPLES
    codec_hz = codec.sample_rate_hz / math.prod(codec.strides) * codec.num_quantizers
    rows = [
        (f"FLAC as published, {hours} h in small, medium and large", amount(flac_bytes / hours, "B"),
         amount(flac_bytes, "B")),
        ("16-bit samples", amount(32_000 * 3600, "B"), amount(32_000 * SECONDS, "B")),
        (f"semantic tokens, {semantic_hz:g} a second", amount(semantic_hz * 3600, "tokens"),
         amount(semantic_hz * SECONDS, "tokens")),
        (f"acoustic tokens, {codec_hz:g} a second", amount(codec_hz * 3600, "tokens"),
         amount(codec_hz * SECONDS, "tokens")),
        ("both at 10 bits a token", *per_hour(10 / 8 * (semantic_hz + codec_hz))),
        (f"records of {SEGMENT_SECONDS} s with random codes", *per_hour(random_record_bytes(semantic, codec))),
    ]  # fmt: skip
    if tokens_dir:
        rows.append((f"real records in {Path(tokens_dir).name}", *per_hour(real_record_bytes(tokens_dir))))
    table(("what", "in an hour", f"in {HOURS} hours"), rows)


def paper_sizes() -> tuple[SemanticTokenizerConfig, SoundStreamConfig]:
    """Semantic tokenizer and codec of the paper, as the gin files have them."""
    return build("kmeans_librilight_paper")[0].learner.tokenizer, build("codec_librilight_paper")[0].learner.config


def per_hour(bytes_per_second: float) -> tuple[str, str]:
    """Bytes in an hour and in all hours."""
    return amount(bytes_per_second * 3600, "B"), amount(bytes_per_second * SECONDS, "B")


def random_record_bytes(semantic: SemanticTokenizerConfig, codec: SoundStreamConfig, num_records: int = 64) -> float:
    """Bytes on disk for a second of audio, if no code could be foretold: an upper bound for real ones."""
    rng = np.random.default_rng(0)

    def encoded() -> Iterator[bytes]:
        for number in range(num_records):
            record = TokenRecord(
                key=f"large/1234/some_book_of_the_corpus/a_chapter_of_it_{number:04d}",
                speaker="1234",
                source=f"large/1234/some_book_of_the_corpus/a_chapter_of_it_{number:04d}.flac",
                num_samples=SEGMENT_SECONDS * codec.sample_rate_hz,
                semantic_tokens=rng.integers(0, semantic.num_clusters, SEGMENT_SECONDS * 25, np.int32),
                acoustic_tokens=rng.integers(
                    0, codec.codebook_size, (SEGMENT_SECONDS * 50, codec.num_quantizers), np.int32
                ),
                semantic_fingerprint="0" * 16,
                codec_fingerprint="0" * 16,
            )
            yield encode_record(record)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "records.array_record")
        write_records(path, encoded())
        return path.stat().st_size / (num_records * SEGMENT_SECONDS)


def real_record_bytes(folder: str) -> float:
    """Bytes on disk for a second of audio of records that `audiolm tokenize` wrote, manifests included."""
    from audiolm_jax.tokens.manifest import read_manifest

    seconds = sum(shard.seconds for shard in read_manifest(folder).shards)
    return sum(path.stat().st_size for path in Path(folder).iterdir() if path.is_file()) / seconds


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """What is run to tokenise.

    Attributes:
        name: in the tables.
        run: a function of (parameters, samples float32[1, T]).
        params: shapes of the parameters.
        overlap: seconds computed for each second of audio.
        mfu: share of a chip's peak that it is taken to reach.
    """

    name: str
    run: Callable[[Any, Any], Any]
    params: Any
    overlap: float
    mfu: float


def tokenizers() -> list[Tokenizer]:
    """Codec and semantic tokenizer of the paper's size."""
    semantic, sizes = paper_sizes()
    codec = SoundStream(sizes)
    trained = build("codec_librilight_paper")[1]
    codec_params = trained.params["generator"] | {"codebooks": trained.collections["codebooks"].entries}
    encoder_params = build("w2v_bert_xl_librilight_paper")[1].params
    window, margin = semantic.window_frames, semantic.margin_frames

    def features(params, rows):
        return w2v_bert.features(semantic.encoder, params, rows, layer=semantic.layer)

    return [
        Tokenizer("codec encoder, 12 levels", codec.encode, codec_params, 1.0, CODEC_MFU),
        Tokenizer("w2v-BERT XL to layer 19", features, encoder_params, window / (window - 2 * margin), ENCODER_MFU),
    ]


def extraction(cpu: bool) -> None:
    """Chip-hours, and with `cpu` core-hours, of tokenising everything."""
    seconds = 30
    samples = jax.ShapeDtypeStruct((1, seconds * 16_000), jnp.float32)
    rows, totals = [], np.zeros(len(CHIPS))
    for tokenizer in tokenizers():
        counted = count_flops(jax.make_jaxpr(tokenizer.run)(tokenizer.params, samples)).model
        flops = counted / seconds * tokenizer.overlap
        hours = chip_hours(flops * SECONDS, tokenizer.mfu)
        totals += hours
        rows.append((
            tokenizer.name, amount(flops, "FLOP"), amount(flops * SECONDS, "FLOP"), f"{tokenizer.mfu:.0%}",
            *map(three_digits, hours),
        ))  # fmt: skip
    rows.append(("both", "", "", "", *map(three_digits, totals)))
    table(("chip-hours of", "for a second", f"for {HOURS} hours", "MFU, assumed", *CHIPS), rows)
    if cpu:
        rows = [cpu_row(tokenizer) for tokenizer in tokenizers()]
        table(("on this CPU", "times real time", "core-hours"), [*rows, flac_row()])


def chip_hours(flops: float, mfu: float) -> list[float]:
    """Hours of one chip of every kind."""
    return [flops / (chip.peak_flops * mfu) / 3600 for chip in CHIPS.values()]


def three_digits(value: float) -> str:
    """As a table shows it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cpu_row(tokenizer: Tokenizer, seconds: int = 10) -> tuple[str, str, str]:
    """Times one tokenizer with made-up weights, which cost what trained ones do."""
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), tokenizer.params)
    samples = jnp.asarray(np.random.default_rng(0).normal(0, 0.1, (1, seconds * 16_000)), jnp.float32)
    run = jax.jit(tokenizer.run)
    jax.block_until_ready(run(params, samples))
    started = time.perf_counter()
    jax.block_until_ready(run(params, samples))
    took = (time.perf_counter() - started) * tokenizer.overlap
    cores = len(os.sched_getaffinity(0))
    core_hours = SECONDS / seconds * took * cores / 3600
    return f"{tokenizer.name}, {cores} cores", f"{seconds / took:.3g}", three_digits(core_hours)


def flac_row(seconds: int = 60) -> tuple[str, str, str]:
    """Times the reading of FLAC; noise decodes about as fast as speech."""
    samples = np.random.default_rng(0).normal(0, 0.05, seconds * 16_000).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "noise.flac")
        soundfile.write(path, samples, 16_000)
        soundfile.read(path)
        started = time.perf_counter()
        for _ in range(10):
            soundfile.read(path, dtype="float32")
        took = (time.perf_counter() - started) / 10
    return "reading FLAC, 1 core", three_digits(seconds / took), three_digits(SECONDS / seconds * took / 3600)


def build(name: str) -> tuple[experiment.Experiment, Any, Any]:
    """An experiment, named with its settings ("NAME MACRO=VALUE"), its state and its batch as shapes."""
    experiment_name, *settings = name.split()
    settings += ["W2V_BERT=/nowhere"] if name.startswith("kmeans") else []
    if name.startswith(STAGES):
        # The kernel computes the causal half only, and is what runs on a TPU.
        settings.append("ATTENTION=pallas_tpu")
    built, _ = experiment.load(experiment_name, settings, "/nowhere")
    batch = built.feed.batch_shapes()
    return built, jax.eval_shape(built.learner.init, jax.random.key(0), batch), batch


def training(checks: str | None) -> None:
    """Operations, steps and chip-hours of every training."""
    rows = []
    for name, mfu in TRAININGS.items():
        state = build(name)[1]
        flops, steps = step_flops(name)
        total = flops * steps
        days = total / (PAPER_CHIPS * CHIPS["v4"].peak_flops * mfu) / 86_400
        rows.append((
            f"`{name}`", amount(parameters(state), ""), amount(flops, "FLOP"), f"{steps:,}", f"{mfu:.0%}",
            *map(three_digits, chip_hours(total, mfu)), f"{days:.2g}",
        ))  # fmt: skip
    header = ("chip-hours of", "parameters", "a step", "steps", "MFU, assumed", *CHIPS, f"days on {PAPER_CHIPS} v4")
    table(header, rows)
    if checks:
        found = [json.loads(path.read_text()) for path in sorted(Path(checks).glob("*.json"))]
        header = ("by the roofline", "chips", "GiB a chip", "seconds a step", "MFU", "chip-hours", "days")
        table(header, [check_row(report) for report in found])


def step_flops(name: str) -> tuple[int, int]:
    """Operations of a step of an experiment, and its steps."""
    built, state, batch = build(name)
    last = step_of_phase(built.learner, phase_of(built.learner, built.options.steps - 1))
    return count_flops(jax.make_jaxpr(last)(state, batch, jax.random.key(0))).model, built.options.steps


def machines() -> None:
    """Days that every training takes on machines of GPUs, at an assumed share of their peak."""
    rows = []
    for name, mfu in TRAININGS.items():
        flops, steps = step_flops(name)
        days = [flops * steps / (number * peak * mfu) / 86_400 for number, peak in MACHINES.values()]
        shown = [f"{each:.0f}" if each >= 10 else f"{each:.2g}" for each in days]
        rows.append((f"`{name}`", amount(flops * steps, "FLOP"), f"{mfu:.0%}", *shown))
    table(("days", "all steps", "MFU, assumed", *MACHINES), rows)


def check_row(report: dict[str, Any]) -> tuple[str, ...]:
    """What a report of `tpu_roofline.py --json` makes of a whole training, if nothing overlaps."""
    step = next(step for step in report["steps"] if step["name"] == "train")
    experiment_name = " ".join([report["experiment"], *report.get("settings", ())])
    name, chips = f"`{experiment_name}`", report["topology"]
    memory = f"{step['needed_bytes'] / GIB:.1f}"
    if not report["fits"]:
        return name, chips, f"{memory}, does not fit", "", "", "", ""
    seconds = step["roofline"]["times"]["step_seconds"]
    hours = seconds * build(experiment_name)[0].options.steps / 3600
    chip_hours_of_all = three_digits(hours * report["num_chips"])
    mfu = f"{step['roofline']['mfu']:.0%}"
    return name, chips, memory, f"{seconds:.3g}", mfu, chip_hours_of_all, f"{hours / 24:.2g}"


def parameters(state: Any) -> int:
    """Numbers in the parameters of a state."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))


def checkpoints(megabytes_per_second: float, write_dir: str | None) -> None:
    """Sizes of checkpoints, and how long one takes to write."""
    rows = []
    for name in TRAININGS:
        built, state, _ = build(name)
        size, kept = state_bytes(state), built.options.keep_checkpoints
        rows.append((
            f"`{name}`", amount(size, "B"), amount(size * kept, "B"), f"{size / megabytes_per_second / 1e6:.2g} s",
            f"{built.options.checkpoint_every_steps:,}",
        ))  # fmt: skip
    table(("checkpoint of", "one", "kept", f"at {megabytes_per_second:g} MB/s", "steps between two"), rows)
    if write_dir:
        size, paused, written, read = measure_checkpoint(write_dir)
        header = (f"`{MEASURED_CHECKPOINT}` here", "training waits", "on disk after", "read and placed in")
        table(header, [(amount(size, "B"), f"{paused:.2g} s", f"{written:.2g} s", f"{read:.2g} s")])


def state_bytes(state: Any) -> int:
    """Bytes of all arrays of a state."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def measure_checkpoint(folder: str) -> tuple[int, float, float, float]:
    """Saves and restores a state of the paper's size; its bytes, and seconds until save returns, is done, is read."""
    rng = np.random.default_rng(0)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def filled(leaf):
        # Random, because zeros would shrink to nothing on disk.
        values = rng.standard_normal(leaf.shape, np.float32) if leaf.dtype == jnp.float32 else np.zeros(leaf.shape)
        return jax.device_put(values.astype(leaf.dtype), device)

    abstract = build(MEASURED_CHECKPOINT)[1]
    state = jax.tree.map(filled, abstract)
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        saver = Checkpoints(workdir)
        started = time.perf_counter()
        saver.save(state, {})
        paused = time.perf_counter() - started
        saver.wait()
        written = time.perf_counter() - started
        started = time.perf_counter()
        jax.block_until_ready(saver.restore(
            jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), abstract)
        )[0])  # fmt: skip
        read = time.perf_counter() - started
        saver.close()
    return state_bytes(abstract), paused, written, read


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"some of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--tokens", metavar="DIR", help="token records whose bytes are measured")
    parser.add_argument("--cpu", action="store_true", help="time the tokenizers on this CPU; takes 4 GB and minutes")
    parser.add_argument("--checks", metavar="DIR", help="JSON files of benchmarks/tpu_roofline.py")
    parser.add_argument("--write", metavar="DIR", help="a folder in which a checkpoint of 2 GB is written and read")
    parser.add_argument("--megabytes_per_second", type=float, default=500, help="of all hosts to storage (default 500)")
    args = parser.parse_args()
    unknown = set(args.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    for section in args.sections or SECTIONS:
        print(f"### {section}\n")
        if section == "storage":
            storage(args.tokens)
        elif section == "extraction":
            extraction(args.cpu)
        elif section == "training":
            training(args.checks)
        elif section == "machines":
            machines()
        else:
            checkpoints(args.megabytes_per_second, args.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
