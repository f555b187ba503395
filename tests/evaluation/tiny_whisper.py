"""A Whisper model of random weights in CTranslate2's format, for tests; it hears nonsense, always the same."""

from pathlib import Path

import numpy as np

WIDTH, WORDS = 16, 24
_SPECIAL = (
    "<|endoftext|> <|startoftranscript|> <|en|> <|translate|> <|transcribe|> <|startoflm|> <|startofprev|> "
    "<|nospeech|> <|notimestamps|>"
).split()


def write(folder: Path, seed: int = 0) -> Path:
    """Fills a folder with config.json, model.bin, tokenizer.json and vocabulary.json."""
    from ctranslate2.specs.whisper_spec import WhisperSpec
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    special = _SPECIAL + [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = letters + [f"Ġw{word}" for word in range(WORDS)] + special
    rng = np.random.default_rng(seed)
    spec = WhisperSpec(1, 2, 1, 2)
    spec.encoder.position_encodings.encodings = rng.normal(size=(1500, WIDTH)).astype(np.float32)
    spec.decoder.position_encodings.encodings = rng.normal(size=(448, WIDTH)).astype(np.float32)
    for name, value in spec.variables().items():
        if value is None:
            _set(spec, name, rng.normal(size=_shape(name, len(vocabulary))).astype(np.float32))
    # Of words alone something is heard.
    spec.decoder.projection.weight[[not token.startswith("Ġw") for token in vocabulary]] = 0
    spec.config.lang_ids = [vocabulary.index("<|en|>")]
    spec.config.suppress_ids, spec.config.suppress_ids_begin, spec.config.alignment_heads = [], [], [[0, 0]]
    spec.register_vocabulary(vocabulary)
    spec.validate()
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    tokenizer = Tokenizer(models.BPE({token: place for place, token in enumerate(vocabulary)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _shape(name: str, num_tokens: int) -> tuple[int, ...]:
    if name.endswith(("gamma", "beta", "bias")):
        return (WIDTH,)
    if name == "encoder/conv1/weight":
        return (WIDTH, 80, 3)
    if name == "encoder/conv2/weight":
        return (WIDTH, WIDTH, 3)
    if name.endswith(("embeddings/weight", "projection/weight")):
        return (num_tokens, WIDTH)
    if "self_attention/linear_0" in name:
        return (3 * WIDTH, WIDTH)
    if "attention/linear_1" in name and "self" not in name:
        return (2 * WIDTH, WIDTH)
    return (WIDTH, WIDTH)


def _set(spec, name: str, value: np.ndarray) -> None:
    *path, leaf = name.split("/")
    for part in path:
        stem, _, number = part.rpartition("_")
        is_item = number.isdigit() and not hasattr(spec, part)
        spec = getattr(spec, stem)[int(number)] if is_item else getattr(spec, part)
    setattr(spec, leaf, value)
