"""What each subcommand of `audiolm` does: thin functions that import what they need when they run."""

import functools
import importlib.util
import json
import os
import sys
import time
from argparse import Namespace
from pathlib import Path

from audiolm_jax import arguments, outputs
from audiolm_jax.errors import UserError
from audiolm_jax.extras import remedy
from audiolm_jax.model_folders import find_bundle, holds_model
from audiolm_jax.object_storage import is_remote

STAGES = ("semantic", "coarse", "fine")
CLASSIFIERS = ("detector", "speaker")
# Metrics whose --output is a file of scores; that of the others is a folder of recordings.
SCORED_BY_FILE = ("swuggy", "sblimp")


def train(args: Namespace) -> int:
    """Trains what a gin file describes."""
    from audiolm_jax.parallel import hosts
    from audiolm_jax.training.experiment import train

    with hosts.joined():
        return train(args.experiment, args.workdir, args.overrides, args.data)


def describe_experiment(experiment: str, overrides: list[str]) -> str:
    """The macros of an experiment, with their values and what they mean."""
    from audiolm_jax.training.macros.macro_list import in_words

    return in_words(experiment, overrides)


def check(args: Namespace) -> int:
    """Compiles a training for devices that need not be there, and tells what it needs of them."""
    from audiolm_jax.check.check import check

    report = check(args.experiment, args.topology, args.slices, args.overrides, args.data, args.train_only)
    if args.json != "-":
        print(report.to_text())
    _write_json(args.json, report.to_json())
    if not report.fits:
        raise UserError(report.error)
    return 0


def tokenize(args: Namespace) -> int:
    """Turns a corpus of audio into token records."""
    from audiolm_jax.parallel import hosts

    if args.engine == "beam":
        if importlib.util.find_spec("apache_beam") is None:
            raise UserError(f"--engine beam needs apache_beam: {remedy('apache_beam')}; or give --engine jax, which "
                            "needs nothing more")
        _check_tokens_folder(args)
        return _tokenize(args, process_index=0, process_count=1)
    if args.beam_args:
        raise UserError(f"unknown argument {args.beam_args[0]}; Beam's flags go with --engine beam")
    _check_tokens_folder(args)
    with hosts.joined():
        _check_shared(args.output)
        return _tokenize(args, hosts.index(), hosts.count())


def _check_tokens_folder(args: Namespace) -> None:
    """Refuses a folder for token records that could not be filled, or that holds something else."""
    outputs.check_folder(args.output, inputs=[name for name in arguments.inputs(args) if name != args.input])
    if not is_remote(args.output) and holds_model(args.output):
        raise UserError(f"{args.output} holds a bundle or an imported model; name another --output")


def _check_shared(folder: str) -> None:
    """Raises UserError where a process of the job does not see the folder that process 0 writes to."""
    import uuid

    from audiolm_jax.object_storage import any_path, check_access
    from audiolm_jax.parallel import hosts

    if hosts.count() == 1:
        return
    check_access(folder)
    folder = any_path(folder)
    name = f".seen-by-all-{uuid.uuid4().hex}"
    if hosts.is_main():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    path = folder / hosts.from_main("tokenize/folder", name)
    until = time.monotonic() + 60  # a network's disk may take its time to show a new file
    while not path.exists():
        if time.monotonic() > until:
            raise UserError(f"process {hosts.index()} does not see the {folder} of process 0; give a folder all share")
        time.sleep(0.5)
    hosts.barrier("tokenize/folder")
    if hosts.is_main():
        path.unlink()


def _tokenize(args: Namespace, process_index: int, process_count: int) -> int:
    """`tokenize` in one process of its job."""
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.data.corpora.corpora import open_corpus
    from audiolm_jax.object_storage import fetch_folder
    from audiolm_jax.tokens.extraction.extract import extract
    from audiolm_jax.tokens.extraction.shard_work import WorkSettings
    from audiolm_jax.tokens.manifest import InputEntry
    from audiolm_jax.tokens.tokenizers import Tokenizers

    corpus = open_corpus(
        args.corpus, args.input, args.heldout_speakers, args.split_seed, args.segment_seconds, args.corpus_cache
    )
    bundle = Bundle.load(fetch_folder(args.bundle))
    source_files = corpus.source_files()  # a folder that cannot be read is refused before anything is said
    if process_index == 0 and (warning := bundle.codec_warning) is not None:
        print(f"warning: {warning}", file=sys.stderr)
    tokenizers = Tokenizers(bundle.codec, bundle.codec_params, bundle.semantic, bundle.semantic_params)
    sizes = tokenizers.sizes()
    settings = WorkSettings(args.batch_size, args.read_threads)

    def engine(plans):
        if args.engine == "jax":
            from audiolm_jax.tokens.extraction.device_engine import run_on_devices

            run_on_devices(plans, tokenizers, sizes, settings, process_index, process_count)
        else:
            from audiolm_jax.tokens.extraction.beam_engine import run_on_beam

            bundle_dir = args.bundle if is_remote(args.bundle) else str(bundle.path)
            load_in_worker = functools.partial(_load_tokenizers, bundle_dir)
            run_on_beam(plans, tokenizers, sizes, settings, load_in_worker, args.beam_args)

    figures = extract(
        source_files,
        args.output,
        sizes,
        gate={name: value for name, value in bundle.metrics.items() if isinstance(value, float)},
        engine=engine,
        files_per_shard=args.files_per_shard,
        left_out=[InputEntry(e.source, e.key, e.speaker, "train", e.reason, "", 0.0) for e in corpus.left_out],
        joins=process_index == 0,
        split=corpus.split,
    )
    if process_index == 0:
        _write_json(args.json, figures.to_json())
    return 0


def _load_tokenizers(bundle_dir: str):
    """The tokenizers of a bundle, in a Beam worker."""
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.object_storage import fetch_folder
    from audiolm_jax.tokens.tokenizers import Tokenizers

    bundle = Bundle.load(fetch_folder(bundle_dir))
    return Tokenizers(bundle.codec, bundle.codec_params, bundle.semantic, bundle.semantic_params)


def generate(args: Namespace) -> int:
    """Writes the samples, and the page if one is asked for."""
    from audiolm_jax.audio import check_output_suffix, encode_for, read_audio
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.generation.pipeline import AudioLM, Request
    from audiolm_jax.listening_page import generation_page

    if args.mode != "unconditional" and args.prompt is None:
        raise UserError(f"mode {args.mode} needs a prompt; give --prompt FILE, or --mode unconditional")
    # What can be refused is refused before minutes are spent.
    sounds = [check_output_suffix(path) for path in _numbered(Path(args.output), args.num_samples)]
    pages = [Path(args.page)] if args.page else []
    files = [*sounds, *pages, *([args.json] if args.json not in (None, "-") else [])]
    outputs.check_files(files, arguments.inputs(args))
    request = Request(
        prompt=None if args.prompt is None else read_audio(args.prompt),
        mode=args.mode,
        prompt_seconds=args.prompt_seconds,
        seconds=args.seconds,
        num_samples=args.num_samples,
        seed=args.seed,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
    )

    started = time.perf_counter()
    bundle = Bundle.load(args.bundle)
    lm = AudioLM(bundle)
    request = lm.with_defaults(request)
    sound_bytes, page_bytes = _generated_bytes(request, bundle.codec.sample_rate_hz)
    outputs.check_files(sounds, needed_bytes=sound_bytes)
    outputs.check_files(pages, needed_bytes=page_bytes)
    loaded = time.perf_counter()
    generations = lm.generations(request, progress=sys.stderr.isatty())
    took_seconds = time.perf_counter() - loaded
    results, lines = {}, {}
    for path, made in zip(sounds, generations, strict=True):
        results[path] = encode_for(path, made.waveform, bundle.licence)
        given = f", the first {made.prompt_seconds:.2f} s given" if made.prompt_seconds else ""
        lines[path] = f"{made.waveform.seconds:.2f} s{given}"
    for path in pages:
        name = Path(args.prompt).name if args.prompt else ""
        results[path] = generation_page(bundle, request, generations, name, took_seconds)
        lines[path] = "open it in a browser to hear and see"
    outputs.write_results(results, lambda path: print(f"{path}: {lines[path]}", file=sys.stderr))
    print(f"generated in {took_seconds:.1f} s with {bundle.name} (licence: {bundle.licence})", file=sys.stderr)
    figures = {
        "files": [str(path) for path in sounds],
        "seconds": generations[0].waveform.seconds,
        "prompt_seconds": generations[0].prompt_seconds,
        "seed": args.seed,
        "load_seconds": loaded - started,
        "generate_seconds": took_seconds,
        "bundle": bundle.name,
        "licence": bundle.licence,
    }
    _write_json(args.json, figures)
    return 0


def _generated_bytes(request, rate_hz: int) -> tuple[int, int]:
    """About as many as the sounds of a request take, and as a page does that holds them and the prompt."""
    from audiolm_jax.generation.pipeline import DEFAULT_SECONDS

    given = 0.0 if request.prompt is None else request.prompt.seconds
    if request.mode == "acoustic":
        seconds = given
    else:
        seconds = min(given, request.prompt_seconds) + (request.seconds or DEFAULT_SECONDS)
    # 16 bits a sample; in a page as text, four characters for three bytes.
    sound_bytes = round(request.num_samples * 2 * rate_hz * seconds)
    return sound_bytes, round(4 / 3 * (sound_bytes + 2 * rate_hz * min(given, seconds)))


def _numbered(path: Path, count: int) -> list[Path]:
    """`path` itself for one, with -1, -2 and so on before the suffix for several."""
    return [path] if count == 1 else [path.with_stem(f"{path.stem}-{number + 1}") for number in range(count)]


def codec(args: Namespace) -> int:
    """Encodes, decodes, and tells how well and how fast."""
    import numpy as np

    from audiolm_jax.audio import Waveform, check_output_suffix, encode_for, read_audio
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.codec.chunked import DEFAULT_CHUNK_SECONDS, decode_chunked, encode_chunked
    from audiolm_jax.evaluation.sound.signal_quality import si_sdr_db
    from audiolm_jax.pretrained.files.imported_model import is_imported
    from audiolm_jax.pretrained.loaded import LoadedCodec, load

    output = check_output_suffix(args.output)
    files = [output, *([args.json] if args.json not in (None, "-") else [])]
    outputs.check_files(files, arguments.inputs(args))
    if is_imported(args.bundle):
        imported = load(args.bundle)
        if not isinstance(imported, LoadedCodec):
            raise UserError(f"{args.bundle} holds an encoder; give --bundle a bundle or an imported codec")
        codec, params = imported.codec, imported.params
    else:
        bundle = Bundle.load(args.bundle)
        codec, params = bundle.codec, bundle.codec_params
    levels = args.num_quantizers or codec.num_quantizers
    if levels > codec.num_quantizers:
        raise UserError(f"--num_quantizers is {levels}, but this codec has {codec.num_quantizers} levels")
    original = read_audio(args.input, codec.sample_rate_hz)
    outputs.check_files(files, needed_bytes=2 * len(original.samples))  # of 16 bits
    progress = original.seconds > 60 and sys.stderr.isatty()

    # Compiles both programs, so that the times below are those of a long recording.
    warm_up = original.samples[None, : round(DEFAULT_CHUNK_SECONDS * codec.sample_rate_hz)]
    decode_chunked(codec, params, encode_chunked(codec, params, warm_up)[:, :, :levels])

    started = time.perf_counter()
    tokens = encode_chunked(codec, params, original.samples[None], progress=progress)
    encoded = time.perf_counter()
    samples = decode_chunked(codec, params, tokens[:, :, :levels], progress=progress)[0, : len(original.samples)]
    decoded = time.perf_counter()
    outputs.write_results({output: encode_for(output, Waveform(samples, codec.sample_rate_hz))})
    figures = {
        "seconds": original.seconds,
        "num_quantizers": levels,
        "bitrate_bps": codec.bitrate_bps(levels),
        "encode_seconds": encoded - started,
        "decode_seconds": decoded - encoded,
        "si_sdr_db": si_sdr_db(original.samples, samples) if np.ptp(original.samples) else None,
    }
    distance = "a silent input" if figures["si_sdr_db"] is None else f"SI-SDR {figures['si_sdr_db']:.1f} dB"
    print(
        f"{args.output}: {figures['bitrate_bps'] / 1000:g} kbps ({levels} of {codec.num_quantizers} levels), "
        f"{distance}, encoded {original.seconds / (encoded - started):.1f} and decoded "
        f"{original.seconds / (decoded - encoded):.1f} times faster than real time",
        file=sys.stderr,
    )
    _write_json(args.json, figures)
    return 0


def import_model(args: Namespace) -> int:
    """Takes a published model from its Hugging Face folder, or from Lyra's files."""
    from audiolm_jax.pretrained.files.description import describe, describe_in_words
    from audiolm_jax.pretrained.files.imported_model import check_output, read_huggingface, write_imported

    # Before gigabytes are read.
    outputs.check_folder(args.output, arguments.inputs(args))
    check_output(args.output, args.overwrite)
    model = read_huggingface(
        args.source,
        args.licence,
        args.kmeans,
        args.layer,
        args.num_quantizers,
        kind_name=args.kind,
        join_levels=args.join_levels,
        rounds_activations=not args.float_activations,
    )
    written = write_imported(model, args.output, args.overwrite)
    if args.json != "-":
        print(describe_in_words(written))
    _write_json(args.json, describe(written))
    return 0


def export_model(args: Namespace) -> int:
    """Writes an imported model back as a Hugging Face folder."""
    from audiolm_jax.pretrained.files.export import check_output, export_huggingface
    from audiolm_jax.pretrained.files.imported_model import read_imported, read_imported_manifest

    read_imported_manifest(args.model)
    outputs.check_folder(args.output, arguments.inputs(args))
    check_output(args.output, args.overwrite)
    model = read_imported(args.model)
    export_huggingface(model, args.output, overwrite=args.overwrite)
    print(f"{args.output}: {model.kind.name} (licence: {model.licence})", file=sys.stderr)
    return 0


def bundle(args: Namespace) -> int:
    """Puts work directories together as a bundle."""
    from audiolm_jax.bundle import describe_in_words
    from audiolm_jax.bundle.workdirs import add_classifiers, export_system, export_tokenizers

    stages = {name: getattr(args, name) for name in STAGES if getattr(args, name)}
    classifiers = {name: getattr(args, name) for name in CLASSIFIERS if getattr(args, name)}
    if sum(source is not None for source in (args.tokenizers, args.codec, args.system)) != 1:
        raise UserError(
            "give --codec and --kmeans for a bundle of tokenizers, --tokenizers and stages for a system, or --system "
            "and classifiers to add them"
        )
    if args.codec is not None:
        if not (args.kmeans and args.name):
            raise UserError("with --codec give --kmeans and --name too, and --licence where a part was trained here")
        if stages or classifiers or args.prompt:
            raise UserError("stages, classifiers and --prompt go with --tokenizers: make a bundle of these first")
        _check_bundle_output(args)
        made = export_tokenizers(
            args.output,
            args.codec,
            args.kmeans,
            args.name,
            args.licence,
            args.data,
            w2v_bert_workdir=args.w2v_bert,
            weight_dtype=args.weight_dtype,
            overwrite=args.overwrite,
        )
        print(describe_in_words(made))
        return 0
    if args.kmeans or args.w2v_bert or args.licence or args.data:
        raise UserError("--kmeans, --w2v_bert, --licence and --data are given when the tokenizers are made")
    if args.tokenizers is not None:
        if not stages:
            raise UserError("give at least one of --semantic, --coarse and --fine with --tokenizers")
        _check_bundle_output(args)
        made = export_system(
            args.output,
            args.tokenizers,
            stages,
            name=args.name,
            prompt=args.prompt,
            weight_dtype=args.weight_dtype,
            overwrite=args.overwrite,
            classifier_workdirs=classifiers,
        )
    else:
        if not classifiers or stages or args.prompt or args.name:
            raise UserError("with --system give --detector, --speaker or both, and nothing else")
        _check_bundle_output(args)
        made = add_classifiers(args.output, args.system, classifiers, args.overwrite)
    print(describe_in_words(made))
    return 0


def _check_bundle_output(args: Namespace) -> None:
    """Refuses what can be refused before weights are read.

    The bundle of --system alone may be replaced by the one that is made of it: that is all of it, and more.
    """
    from audiolm_jax.audio import read_audio
    from audiolm_jax.bundle.export import check_output

    for flag in ("tokenizers", "system"):
        if (name := getattr(args, flag)) is not None:
            try:
                find_bundle(name)
            except UserError as error:
                raise UserError(f"--{flag}: {error}") from error
    outputs.check_folder(args.output, [given for given in arguments.inputs(args) if given != args.system])
    check_output(args.output, args.overwrite)
    if args.prompt is not None:
        read_audio(args.prompt)


def evaluate(args: Namespace) -> int:
    """Runs one metric of `eval_commands`, and prints its figures."""
    if (output := getattr(args, "output", None)) is not None:
        if args.metric in SCORED_BY_FILE:
            # It is added to, so it may be there and lie among the recordings; what is no file of scores is spared.
            outputs.check_files([output], [given for given in arguments.inputs(args) if not os.path.isdir(given)])
        else:
            sound = list(getattr(args, "data", None) or ())
            sound += [getattr(args, name, None) for name in ("audio", "unrelated")]
            outputs.check_folder(output, arguments.inputs(args), sound)
    measurement = args.measure(args)
    if measurement is None or isinstance(measurement, int):  # of a command that writes and tells by itself
        return measurement or 0
    if args.json != "-":
        for name, value in measurement.figures.items():
            low_high = measurement.intervals.get(name)
            shown = "not defined" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
            print(f"{name}: {shown}" + (f"  [{low_high[0]:.4g}, {low_high[1]:.4g}]" if low_high else ""))
    for note in measurement.notes:
        print(f"note: {note}", file=sys.stderr)
    _write_json(args.json, measurement.to_json())
    return 0


def info(args: Namespace) -> int:
    """Tells what is in a bundle, or in an imported model."""
    from audiolm_jax import bundle
    from audiolm_jax.pretrained.files import description
    from audiolm_jax.pretrained.files.imported_model import is_imported, read_imported

    told, teller = (
        (read_imported(args.bundle), description)
        if is_imported(args.bundle)
        else (bundle.Bundle.load(args.bundle), bundle)
    )
    if args.json != "-":
        print(teller.describe_in_words(told))
    _write_json(args.json, teller.describe(told))
    return 0


def _write_json(target: str | None, figures: dict) -> None:
    """Writes figures to a file, or to stdout for "-"; does nothing for None."""
    if target is None:
        return
    text = json.dumps(figures, indent=None if target == "-" else 2) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        outputs.write_results({Path(target): text.encode()})
