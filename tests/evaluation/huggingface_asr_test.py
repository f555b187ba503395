"""Recognisers of local folders: what is refused, and that tiny models are decoded as their definitions say.

The second half needs transformers and torch (extra `asr`) and is skipped without them. Its models have random weights
and are made here, so nothing is downloaded.
"""

import itertools
import json
import shutil
import sys

import numpy as np
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.words.asr import load_recogniser

LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'")
WHISPER_MARKS = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip


def write(folder, **texts):
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text)


CTC = '{"architectures": ["Wav2Vec2ForCTC"]}'


def test_a_folder_must_hold_a_model_of_speech(tmp_path):
    with pytest.raises(UserError, match="no config.json"):
        load_recogniser(str(tmp_path))
    write(tmp_path, config__json="[1]")
    with pytest.raises(UserError, match="no JSON object"):
        load_recogniser(str(tmp_path))
    write(tmp_path, config__json='{"architectures": ["BertModel"]}')
    with pytest.raises(UserError, match="class BertModel, which recognises no speech"):
        load_recogniser(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path):
    write(tmp_path, config__json=CTC, pytorch_model__bin="", preprocessor_config__json="{}", vocab__json="{}")
    with pytest.raises(UserError, match="pickled"):
        load_recogniser(str(tmp_path))


@pytest.mark.parametrize("missing", ["preprocessor_config.json", "vocab.json"])
def test_files_that_transformers_would_do_without(tmp_path, missing):
    write(tmp_path, config__json=CTC, model__safetensors="", preprocessor_config__json="{}", vocab__json="{}")
    (tmp_path / missing).unlink()
    with pytest.raises(UserError, match=missing):
        load_recogniser(str(tmp_path))


def test_the_extra_is_named_where_it_is_missing(tmp_path, monkeypatch):
    write(tmp_path, config__json=CTC, model__safetensors="", preprocessor_config__json="{}", vocab__json="{}")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install 'audiolm_jax\[asr\]'"):
        load_recogniser(str(tmp_path))


@pytest.fixture(scope="module")
def torch():
    pytest.importorskip("transformers")
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def ctc_folder(torch, tmp_path_factory):
    """A wav2vec 2.0 with random weights."""
    import transformers

    folder = tmp_path_factory.mktemp("ctc")
    (folder / "vocab.json").write_text(json.dumps({letter: index for index, letter in enumerate(LETTERS)}))
    transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(LETTERS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    transformers.Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whisper_folder(torch, tmp_path_factory):
    """A Whisper of several languages with random weights; its tokens are single bytes."""
    import transformers
    from tokenizers.pre_tokenizers import ByteLevel

    folder = tmp_path_factory.mktemp("whisper")
    ids = {token: index for index, token in enumerate((*sorted(ByteLevel.alphabet()), *WHISPER_MARKS))}
    tokenizer = transformers.WhisperTokenizer(vocab=ids, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": list(WHISPER_MARKS[1:])})
    tokenizer.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=8).save_pretrained(folder)
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    torch.manual_seed(1)
    config = transformers.WhisperConfig(
        vocab_size=len(ids), num_mel_bins=8, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        max_target_positions=24, pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=start,
        suppress_tokens=[], begin_suppress_tokens=[],
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=1.0)
    for name, value in {
        "is_multilingual": True, "lang_to_id": {"<|en|>": ids["<|en|>"]},
        "task_to_id": {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        "no_timestamps_token_id": ids["<|notimestamps|>"], "max_length": 24,
        "suppress_tokens": None, "begin_suppress_tokens": None, "_from_model_config": False,
    }.items():  # fmt: skip
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    return folder


def noises(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=8000 + 4000 * n).astype(np.float32) * np.hanning(8000 + 4000 * n) for n in range(count)]


def test_ctc_is_decoded_by_its_definition(torch, ctc_folder):
    import transformers

    recogniser = load_recogniser(str(ctc_folder))
    assert recogniser.sample_rate_hz == 16_000 and recogniser.max_seconds is None
    model = transformers.Wav2Vec2ForCTC.from_pretrained(ctc_folder).eval()
    for noise in noises(3):
        normed = (noise - noise.mean()) / np.sqrt(noise.var() + 1e-7)
        with torch.no_grad():
            labels = model(torch.tensor(normed[None], dtype=torch.float32)).logits[0].argmax(-1).tolist()
        merged = [label for label, _ in itertools.groupby(labels) if label > 3]
        expected = "".join(LETTERS[label] for label in merged).replace("|", " ")
        assert recogniser.transcribe(noise) == expected.strip() and len(expected) > 5


def test_blanks_part_equal_letters_and_marks_do_too(ctc_folder):
    recogniser = load_recogniser(str(ctc_folder))
    ids = {letter: index for index, letter in enumerate(LETTERS)}
    spoken = ["H", "H", "E", "<pad>", "L", "L", "<pad>", "L", "O", "|", "|", "<s>", "A", "</s>", "A", "<pad>"]
    assert recogniser._read_ctc([ids[letter] for letter in spoken]) == "HELLO AA"


def test_whisper_is_decoded_greedily_after_its_prompt(torch, whisper_folder):
    import transformers

    recogniser = load_recogniser(str(whisper_folder))
    assert recogniser.max_seconds == 30
    model = transformers.WhisperForConditionalGeneration.from_pretrained(whisper_folder).eval()
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(whisper_folder)
    tokenizer = transformers.WhisperTokenizer.from_pretrained(whisper_folder)
    marks = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
    heard = set()
    for noise in noises(2):
        features = extractor(noise, sampling_rate=16_000, return_tensors="pt").input_features
        tokens = [tokenizer.convert_tokens_to_ids(mark) for mark in marks]
        while len(tokens) < 24 and tokens[-1] != tokenizer.eos_token_id:
            with torch.no_grad():
                logits = model(features, decoder_input_ids=torch.tensor([tokens])).logits[0, -1]
            tokens.append(int(logits.argmax()))
        assert recogniser.transcribe(noise) == tokenizer.decode(tokens, skip_special_tokens=True).strip()
        heard.add(tuple(tokens))
    assert len(heard) == 2


def test_hardly_any_samples_are_heard_too(ctc_folder):
    recogniser = load_recogniser(str(ctc_folder))
    assert isinstance(recogniser.transcribe(np.zeros(0, np.float32)), str)
    assert isinstance(recogniser.transcribe(np.ones(10, np.float32)), str)


def test_the_version_knows_the_weights(ctc_folder, tmp_path):
    version = load_recogniser(str(ctc_folder)).version
    copy = shutil.copytree(ctc_folder, tmp_path / "copy")
    assert load_recogniser(str(copy)).version == version
    vocabulary = json.loads((copy / "vocab.json").read_text())
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    (copy / "vocab.json").write_text(json.dumps(vocabulary))
    assert load_recogniser(str(copy)).version != version


@pytest.mark.parametrize("damage", ["cut short", "too few layers"])
def test_damaged_weights_are_one_clear_line(ctc_folder, tmp_path, damage):
    copy = shutil.copytree(ctc_folder, tmp_path / "copy")
    if damage == "cut short":
        weights = (copy / "model.safetensors").read_bytes()
        (copy / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    else:
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    with pytest.raises(UserError, match="no complete Hugging Face model|holds no weights for"):
        load_recogniser(str(copy))
