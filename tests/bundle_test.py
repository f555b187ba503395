"""Bundles: what is written is what is read, and what does not belong together is refused in one line."""

import dataclasses
import json
import shutil
from fractions import Fraction

import jax
import numpy as np
import pytest

from audiolm_jax.bundle import Bundle, describe, describe_in_words, export_bundle, with_metrics
from audiolm_jax.bundle.manifest import PROMPT_NAME
from audiolm_jax.codec.soundstream import SoundStreamConfig
from audiolm_jax.errors import UserError
from audiolm_jax.files.plain_json import from_plain, to_plain
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.semantic.tokenizer import SemanticTokenizerConfig
from audiolm_jax.tokens.stages import Stage, coarse_stage, fine_stage, semantic_stage
from tests import tiny_system


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """Exported tokenizers without language models."""
    return export_bundle(tiny_system.tiny_tokenizers(), tmp_path_factory.mktemp("bundles") / "tokenizers")


@pytest.fixture(scope="module")
def system(tokenizers):
    """The exported system with all stages."""
    return export_bundle(tiny_system.tiny_system(tokenizers), tokenizers.path.parent / "system")


@pytest.fixture
def copy(system, tmp_path):
    """A folder of its own that a test may damage."""
    return shutil.copytree(system.path, tmp_path / "copy")


def edit(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def assert_same_arrays(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.mark.parametrize(
    "config",
    [
        SoundStreamConfig(
            stem="spectrum", stem_stride=80, strides=(2, 2, 1), main_path="linear", encoder_channels=(4, 4, 8, 8),
            decoder_channels=(4, 6, 8, 8), embed_dim=4,
        ),
        tiny_system.TOKENIZER,
        dataclasses.replace(tiny_system.TRANSFORMER, compute_dtype="bfloat16", remat="dots", unroll=False),
        semantic_stage(),
        coarse_stage(crop_seconds=2.5),
        fine_stage(),
    ],
    ids=lambda config: type(config).__name__,
)
def test_configurations_survive_json(config):
    plain = json.loads(json.dumps(to_plain(config)))
    if isinstance(config, SemanticTokenizerConfig):  # whose encoder may be of several kinds; a manifest names it
        plain["encoder"] = from_plain(type(config.encoder), plain["encoder"], "config.encoder")
    back = from_plain(type(config), plain, "config")
    assert back == config
    assert hash(back) == hash(config)


def test_fractions_stay_exact():
    stage = dataclasses.replace(fine_stage(), crop_seconds=Fraction(10, 3))
    assert from_plain(Stage, json.loads(json.dumps(to_plain(stage))), "stage").crop_seconds == Fraction(10, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": "6"}, "num_layers is '6'"),
        ({"num_layers": True}, "num_layers is True"),
        ({"unknown": 1}, "does not know"),
        ({"dropout": 2.0}, "dropout must lie"),
        ({"compute_dtype": "float64"}, "compute_dtype is 'float64', but must be float32 or bfloat16"),
    ],
)
def test_wrong_configurations_name_the_place(change, message):
    plain = to_plain(tiny_system.TRANSFORMER) | change
    with pytest.raises(UserError, match=message):
        from_plain(TransformerConfig, plain, "manifest.json: config")


def test_missing_field_is_told():
    plain = to_plain(tiny_system.TRANSFORMER)
    del plain["embed_dim"]
    with pytest.raises(UserError, match="lacks 'embed_dim'"):
        from_plain(TransformerConfig, plain, "config")


def test_what_is_exported_is_what_is_loaded(system, tokenizers):
    made = tiny_system.tiny_system(tokenizers)
    assert system.stages == tiny_system.STAGES
    assert list(system.stages) == ["semantic", "coarse", "fine"]
    assert (system.codec, system.semantic) == (made.codec, made.semantic)
    assert system.prompt == (system.path / PROMPT_NAME).read_bytes() == b"RIFF"
    assert system.config_gin == "STEPS = 7\n"
    for name, model in made.language_models.items():
        loaded = system.language_models[name].params
        assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype(np.float32)}
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), model.params, loaded)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_twice_changes_nothing(tokenizers, tmp_path, dtype):
    once = export_bundle(tokenizers, tmp_path / "once", dtype)
    twice = export_bundle(once, tmp_path / "twice", dtype)
    assert_same_arrays(once.codec_params, twice.codec_params)
    assert (once.codec_fingerprint, once.semantic_fingerprint) == (twice.codec_fingerprint, twice.semantic_fingerprint)
    for name in ("codec.safetensors", "semantic.safetensors"):
        assert (once.path / name).read_bytes() == (twice.path / name).read_bytes()


def test_fingerprints_are_those_of_the_rounded_weights(tokenizers):
    in_memory = tiny_system.tiny_tokenizers()
    assert tokenizers.codec_fingerprint != in_memory.codec_fingerprint
    assert Bundle.load(tokenizers.path).codec_fingerprint == tokenizers.codec_fingerprint


def test_tokens_of_the_unrounded_codec_are_refused(tmp_path):
    in_memory = tiny_system.tiny_tokenizers()
    with pytest.raises(UserError, match="trained on tokens of codec"):
        export_bundle(tiny_system.tiny_system(in_memory), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_tokenizers_alone_are_a_bundle(tokenizers):
    assert tokenizers.language_models == {}
    assert tokenizers.stages == {}
    assert "tokenizers only" in describe_in_words(tokenizers)


def test_wrong_codec_is_refused(copy, tmp_path):
    other = export_bundle(tiny_system.tiny_tokenizers(seed=5), tmp_path / "other")
    shutil.copy(other.path / "codec.safetensors", copy)
    with pytest.raises(UserError, match="SHA-256 differs"):
        Bundle.load(copy)
    theirs = json.loads((other.path / "manifest.json").read_text())
    edit(copy, lambda manifest: manifest["files"].update({"codec.safetensors": theirs["files"]["codec.safetensors"]}))
    with pytest.raises(UserError, match="do not belong together"):
        Bundle.load(copy)
    edit(copy, lambda manifest: manifest.update(codec=theirs["codec"]))
    with pytest.raises(UserError, match="semantic language model was trained on tokens of codec"):
        Bundle.load(copy)


def test_other_kmeans_is_refused(copy):
    edit(copy, lambda manifest: manifest["language_models"]["coarse"].update(semantic_fingerprint="0" * 16))
    with pytest.raises(UserError, match="coarse language model was trained on tokens of semantic tokenizer 0000"):
        Bundle.load(copy)


def test_damage_is_told_in_one_line(copy):
    weights = copy / "lm_fine.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-10])
    with pytest.raises(UserError, match="cut short"):
        Bundle.load(copy)
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match="SHA-256 differs"):
        Bundle.load(copy)
    weights.unlink()
    with pytest.raises(UserError, match="lm_fine.safetensors is missing"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=99), "schema version 99"),
        (lambda m: m.update(licence=" "), "names no licence"),
        (lambda m: m["codec"].update(kind="codec2"), "kind 'codec2'"),
        (lambda m: m["files"].pop("codec.safetensors"), "does not list codec.safetensors"),
        (lambda m: m["files"].update({"../x": m["files"]["codec.safetensors"]}), "not a plain file name"),
        (lambda m: m["files"].update({"..": m["files"]["codec.safetensors"]}), "not a plain file name"),
        (lambda m: m["files"].update({"a\0b": m["files"]["codec.safetensors"]}), "not a plain file name"),
        (lambda m: m["files"].update({"x" * 5000: m["files"]["codec.safetensors"]}), "xxx ..., which is not a plain"),
        (lambda m: m.update(schema_version=[0] * 5000), r"schema version \[0, .* \.\.\.,"),
        (lambda m: m["codec"].update(kind=["soundstream"]), r"kind \['soundstream'\]"),
        (lambda m: m["language_models"]["fine"]["config"].update(dropout=10**400), "dropout is 1000.* no float"),
        (lambda m: m.update(name="\ud800"), "manifest.json is damaged"),
        (lambda m: m.pop("name"), "lacks 'name'"),
        (lambda m: m["language_models"].update(other=m["language_models"]["fine"]), "belongs to stage"),
    ],
)
def test_manifest_mistakes_are_told(copy, change, message):
    edit(copy, change)
    with pytest.raises(UserError, match=message) as error:
        Bundle.load(copy)
    assert "\n" not in str(error.value)


def test_damaged_manifest_is_told(copy):
    (copy / "manifest.json").write_text('{"schema_version": 1,')
    with pytest.raises(UserError, match="manifest.json is damaged"):
        Bundle.load(copy)
    (copy / "manifest.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(UserError, match="manifest.json is damaged .*nested too deep"):
        Bundle.load(copy)


def test_missing_bundles_are_told(tmp_path):
    with pytest.raises(UserError, match="there is no bundle 'nowhere'"):
        Bundle.load("nowhere")
    with pytest.raises(UserError, match="has no manifest.json"):
        Bundle.load(tmp_path)


def test_export_needs_a_licence_and_an_empty_place(tokenizers, tmp_path):
    with pytest.raises(UserError, match="needs the licence"):
        export_bundle(dataclasses.replace(tokenizers, licence=""), tmp_path / "bundle")
    (tmp_path / "bundle").mkdir()
    export_bundle(tokenizers, tmp_path / "bundle")
    with pytest.raises(UserError, match="exists"):
        export_bundle(tokenizers, tmp_path / "bundle")
    renamed = export_bundle(dataclasses.replace(tokenizers, name="new"), tmp_path / "bundle", overwrite=True)
    assert renamed.name == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_overwriting_spares_what_is_no_part_of_a_bundle(tokenizers, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "prompt.wav").write_bytes(b"RIFF")
    export_bundle(tokenizers, folder, overwrite=True)
    (folder / "precious").write_text("thesis")
    with pytest.raises(UserError, match="exists"):
        export_bundle(tokenizers, folder, overwrite=True)
    assert (folder / "precious").read_text() == "thesis"


def test_weights_that_half_precision_cannot_hold_are_refused(tokenizers, tmp_path):
    params = dict(tokenizers.codec_params, codebooks=1e6 * np.ones((4, 16, 4), np.float32))
    with pytest.raises(UserError, match="codebooks holds values that float16 cannot"):
        export_bundle(dataclasses.replace(tokenizers, codec_params=params), tmp_path / "bundle")


def test_figures_merge_and_reach_the_card(copy):
    with_metrics(copy, {"codec_visqol_speech_6kbps": 2.75, "coarse": {"heldout_nats_per_token": 4.0}})
    with_metrics(copy, {"coarse": {"unigram_nats_per_token": 5.0}})
    bundle = Bundle.load(copy)
    assert bundle.metrics["coarse"] == {"heldout_nats_per_token": 4.0, "unigram_nats_per_token": 5.0}
    card = (copy / "MODEL_CARD.md").read_text()
    assert "| codec_visqol_speech_6kbps | 2.75 |" in card
    assert "CC0-1.0" in card and "noise (0.50 h" in card and "codec, 7" in card
    assert "codec_visqol_speech_6kbps" in describe_in_words(bundle)


def test_description_counts(system):
    facts = json.loads(json.dumps(describe(system)))
    assert facts["stages"] == ["semantic", "coarse", "fine"]
    assert facts["parts"]["codec"]["bitrates_bps"] == [200.0, 400.0, 600.0, 800.0]
    assert facts["parts"]["semantic"]["bitrate_bps"] == 100.0
    assert facts["parts"]["lm_fine"]["vocab_size"] == 2 + 4 * 16
    assert facts["parameters"] == sum(part["parameters"] for part in facts["parts"].values())
    assert facts["bytes"] == sum(path.stat().st_size for path in system.path.iterdir())
    assert facts["licence"] in describe_in_words(system)


def test_a_codec_that_has_not_passed_its_examination_is_warned_of(tokenizers, tmp_path):
    def exported(name, **examination):
        plain = {"examination": examination} if examination else {}
        bundle = dataclasses.replace(tokenizers, provenance=plain)
        return export_bundle(bundle, tmp_path / name)

    good = {"step": 9, "figures": {"visqol": 3.4}, "faults": [], "passed": True}
    assert exported("good", **good).codec_warning is None
    bad = exported("bad", **good | {"faults": ["level 2 has collapsed"], "passed": False})
    assert "has not passed its examination (step 9: level 2 has collapsed)" in bad.codec_warning
    assert bad.codec_warning in describe_in_words(bad)
    assert "step 9: not passed: visqol 3.4; fault: level 2 has collapsed" in (bad.path / "MODEL_CARD.md").read_text()
    assert "ViSQOL is 3.40" in exported("dull", **good | {"passed": False}).codec_warning
    unjudged = exported("unjudged", **good | {"figures": {}, "passed": None})
    assert "pip install" in unjudged.codec_warning
    assert "never examined" in exported("unknown").codec_warning
    with pytest.raises(UserError, match="examination.step is 'nine', which is no int"):
        exported("damaged", **good | {"step": "nine"}).codec_warning  # noqa: B018
