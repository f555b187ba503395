"""`audiolm generate` and `codec`: from sound to sound."""

import sys
import time
from argparse import Namespace
from pathlib import Path

from audiolm_jax.cli import arguments
from audiolm_jax.errors import UserError
from audiolm_jax.files import outputs


def add_generate(parser) -> None:
    """The arguments of `audiolm generate`."""
    parser.add_argument(
        "--mode",
        choices=("continuation", "acoustic", "unconditional"),
        default="continuation",
        help="continuation of a prompt (default), acoustic: its content in a new voice, unconditional: no prompt",
    )
    parser.add_argument("--prompt", metavar="IN", help="an audio file: WAV, FLAC, OGG, Opus or MP3 of any rate")
    parser.add_argument("--output", required=True, metavar="OUT", help=".wav or .flac; several: OUT-1, OUT-2 ...")
    parser.add_argument("--page", metavar="HTML", help="also write a page with players, spectrograms and tokens")
    parser.add_argument(
        "--prompt_seconds",
        type=arguments.length,
        default=3.0,
        metavar="S",
        help="how much of the prompt is used (default 3)",
    )
    parser.add_argument(
        "--seconds",
        type=arguments.length,
        metavar="S",
        help="how much is new (default 7; in mode acoustic all of the prompt)",
    )
    parser.add_argument("--num_samples", type=arguments.positive, default=1, metavar="N", help="how many (default 1)")
    parser.add_argument(
        "--seed", type=arguments.whole, default=0, metavar="N", help="same seed, same sound (default 0)"
    )
    parser.add_argument(
        "--temperature", type=arguments.per_stage(float), metavar="T",
        help="one number, or three for the semantic, coarse and fine stage (default: the bundle's)",
    )  # fmt: skip
    parser.add_argument(
        "--top_k", type=arguments.per_stage(int), default=(0, 0, 0), metavar="K",
        help="draw from the K likeliest codes (default 0: from all)",
    )  # fmt: skip
    parser.add_argument(
        "--top_p", type=arguments.per_stage(float), default=(1.0, 1.0, 1.0), metavar="P",
        help="draw from the likeliest codes that hold this share (default 1)",
    )  # fmt: skip
    arguments.add_bundle(parser)
    arguments.add_json(parser)


def generate(args: Namespace) -> int:
    """Writes the samples, and the page if one is asked for."""
    if args.mode != "unconditional" and args.prompt is None:
        raise UserError(f"mode {args.mode} needs a prompt; give --prompt FILE, or --mode unconditional")

    from audiolm_jax.audio import check_output_suffix, encode_for, read_audio

    # What can be refused is refused before minutes are spent.
    sounds = [check_output_suffix(path) for path in _numbered(Path(args.output), args.num_samples)]
    pages = [Path(args.page)] if args.page else []
    files = [*sounds, *pages, *([args.json] if args.json not in (None, "-") else [])]
    outputs.check_files(files, arguments.inputs(args))
    prompt = None if args.prompt is None else read_audio(args.prompt)

    # Not before, because they take seconds to import.
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.generation.pipeline import AudioLM, Request
    from audiolm_jax.page.listening_page import generation_page

    request = Request(
        prompt=prompt,
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
    arguments.write_json(args.json, figures)
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


def add_codec(parser) -> None:
    """The arguments of `audiolm codec`."""
    parser.add_argument("input", metavar="IN", help="an audio file")
    parser.add_argument("output", metavar="OUT", help="the decoded sound, .wav or .flac")
    parser.add_argument(
        "--num_quantizers",
        type=arguments.positive,
        metavar="N",
        help="levels to keep: fewer levels, lower rate (default all)",
    )
    arguments.add_bundle(parser)
    arguments.add_json(parser)


def codec(args: Namespace) -> int:
    """Encodes, decodes, and tells how well and how fast."""
    from audiolm_jax.audio import Waveform, check_output_suffix, encode_for, read_audio, read_header

    output = check_output_suffix(args.output)
    files = [output, *([args.json] if args.json not in (None, "-") else [])]
    outputs.check_files(files, arguments.inputs(args))
    read_header(args.input)

    # Not before, because they take seconds to import.
    import numpy as np

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.codec.chunked import DEFAULT_CHUNK_SECONDS, decode_chunked, encode_chunked
    from audiolm_jax.evaluation.sound.signal_quality import si_sdr_db
    from audiolm_jax.pretrained.files.imported_model import is_imported
    from audiolm_jax.pretrained.loaded import LoadedCodec, load

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
    arguments.write_json(args.json, figures)
    return 0
