"""From a Hugging Face folder to ours and back, for every kind; and what a damaged or foreign folder is told."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import audiolm_jax
from audiolm_jax import cli
from audiolm_jax.errors import UserError
from audiolm_jax.files import weight_file
from audiolm_jax.pretrained.files.export import export_huggingface
from audiolm_jax.pretrained.files.imported_model import (
    KMeans,
    is_imported,
    read_huggingface,
    read_imported,
    read_imported_manifest,
    write_imported,
)
from audiolm_jax.pretrained.kind import CODEC, ENCODER
from audiolm_jax.pretrained.kinds import KINDS

GOLDEN = Path(__file__).parents[1] / "golden" / "pretrained"
NAMES = [kind.name for kind in KINDS]
ENCODERS = [kind.name for kind in KINDS if kind.part != CODEC]
CODECS = [kind.name for kind in KINDS if kind.part == CODEC]


@pytest.fixture
def source(tmp_path):
    """A copy of a golden folder that may be spoilt."""

    def copy(name):
        folder = tmp_path / "source"
        shutil.copytree(GOLDEN / name, folder, ignore=shutil.ignore_patterns("expected.safetensors"))
        return folder

    return copy


def audiolm(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("name", NAMES)
def test_import_export_import_gives_the_same_bits(name, tmp_path):
    assert audiolm("import", GOLDEN / name, "--output", tmp_path / "first") == 0
    assert audiolm("export", tmp_path / "first", "--output", tmp_path / "exported") == 0
    assert audiolm("import", tmp_path / "exported", "--output", tmp_path / "second") == 0
    first, second = read_imported(tmp_path / "first"), read_imported(tmp_path / "second")
    assert first.fingerprint() == second.fingerprint()
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
    for file in ("config.json", "preprocessor_config.json"):
        if (GOLDEN / name / file).exists():
            exported, golden = (folder / file for folder in (tmp_path / "exported", GOLDEN / name))
            assert json.loads(exported.read_text()) == json.loads(golden.read_text())
    # Every tensor of theirs is there again, with its shape.
    theirs, ours = load_file(GOLDEN / name / "model.safetensors"), load_file(tmp_path / "exported/model.safetensors")
    assert len(ours) == len(theirs) - len(first.left_out)
    assert sum(array.size for array in ours.values()) == sum(
        array.size for key, array in theirs.items() if key not in first.left_out
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_is_loaded_computes_the_same_from_either_folder(name, tmp_path):
    write_imported(read_huggingface(GOLDEN / name), tmp_path / "imported")
    wave = load_file(GOLDEN / name / "expected.safetensors")["wave.2"][None]
    results = []
    for folder in (GOLDEN / name, tmp_path / "imported"):
        model = audiolm_jax.pretrained.load(folder)
        results.append(np.asarray(model.encode(wave) if hasattr(model, "encode") else model.features(wave, layer=1)))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("name", CODECS)
def test_the_first_levels_are_those_of_all_levels(name, tmp_path, capsys):
    assert audiolm("import", GOLDEN / name, "--output", tmp_path / "two", "--num_quantizers", "2", "--json", "-") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["num_quantizers"] == 2
    two, every = audiolm_jax.pretrained.load(tmp_path / "two"), audiolm_jax.pretrained.load(GOLDEN / name)
    wave = load_file(GOLDEN / name / "expected.safetensors")["wave.2"][None]
    np.testing.assert_array_equal(two.encode(wave), np.asarray(every.encode(wave))[:, :, :2])
    assert two.fingerprint != every.fingerprint
    with pytest.raises(UserError, match="--num_quantizers is 99"):
        read_huggingface(GOLDEN / name, num_quantizers=99)


@pytest.mark.parametrize("name", ENCODERS)
def test_with_centroids_an_encoder_tokenizes(name, tmp_path):
    encoder = audiolm_jax.pretrained.load(GOLDEN / name)
    np.save(tmp_path / "km.npy", np.random.default_rng(0).normal(size=(7, encoder.config.dim)))
    flags = ("--kmeans", tmp_path / "km.npy", "--layer", "1")
    assert audiolm("import", GOLDEN / name, "--output", tmp_path / "units", *flags) == 0
    units = audiolm_jax.pretrained.load(tmp_path / "units")
    waves = load_file(GOLDEN / name / "expected.safetensors")
    long, short = waves["wave.1"], waves["wave.2"]
    rows = np.stack([long, np.pad(short, (0, len(long) - len(short)), constant_values=0.3)])
    tokens = units.tokenize(rows, [len(long), len(short)])
    assert tokens.shape == (2, -(-len(long) // units.hop_samples)) and tokens.max() < 7
    alone = units.tokenize(short[None])[0]
    np.testing.assert_array_equal(tokens[1, : len(alone)], alone)
    with pytest.raises(UserError, match="no centroids"):
        encoder.tokenize(rows)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--layer", "1"), "give --kmeans and --layer together"),
        (("--kmeans", "km.npy", "--layer", "99"), "--layer is 99"),
        (("--kmeans", "km.npy", "--layer", "1"), "they belong to another encoder"),
        (("--kmeans", "none.npy", "--layer", "1"), "there is no k-means file"),
        (("--num_quantizers", "2"), "--num_quantizers goes with a codec"),
    ],
)
def test_flags_that_do_not_fit_are_told_in_one_line(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    np.save("km.npy", np.ones((3, 5)))
    assert audiolm("import", GOLDEN / "hubert", "--output", "out", *flags) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert not Path("out").exists()


def spoil_truncated(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    return "model.safetensors is cut short or no safetensors file"


def spoil_config(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": config["num_hidden_layers"] + 1}))
    return "does not hold the model that its config.json describes: missing"


def spoil_json(folder):
    (folder / "config.json").write_text('{"model_type": "hub')
    return "config.json is damaged"


def spoil_missing_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["feature_projection.projection.bias"]
    save_file(tensors, folder / "model.safetensors")
    return "missing feature_projection.projection.bias"


def spoil_type(folder):
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    return "model_type is 'whisper', but only hubert, wav2vec2"


def spoil_no_weights(folder):
    (folder / "model.safetensors").unlink()
    return "has no model.safetensors and no pytorch_model.bin"


def spoil_pickle(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'touch /tmp/was_run'\ntR.")
    return "of the format before PyTorch 1.6; save the model as safetensors"


def spoil_deep_json(folder):
    (folder / "config.json").write_text('{"model_type":' + "[" * 100_000 + "]" * 100_000 + "}")
    return "config.json is damaged (lists or objects are nested too deep)"


def spoil_layers(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10**9}))
    return "num_hidden_layers is 1000000000, not 0 to 1000"


def spoil_strides(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"conv_stride": [0] * 5000}))
    return "conv_stride is [0, 0"


def spoil_long_value(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "x" * 5000}))
    return " ..., but only 'gelu' is supported"


def spoil_no_folder(folder):
    shutil.rmtree(folder)
    return "is no folder"


@pytest.mark.parametrize("spoil", [value for name, value in sorted(globals().items()) if name.startswith("spoil_")])
def test_a_folder_that_cannot_be_imported_is_told_in_one_line(source, tmp_path, capsys, spoil):
    message = spoil(source("hubert"))
    assert audiolm("import", tmp_path / "source", "--output", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_codec_without_an_even_sequence_of_frames_is_refused(tmp_path, capsys):
    assert audiolm("import", GOLDEN / "encodec_48khz", "--output", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "normalize = True" in told and "import facebook/encodec_24khz instead" in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mimi", {"num_attention_heads": 0, "num_key_value_heads": 0}),
        ("mimi", {"sampling_rate": 0}),
        ("encodec", {"codebook_size": 0}),
        ("encodec", {"codebook_size": 1}),
        ("encodec", {"sampling_rate": 0}),
        ("encodec", {"upsampling_ratios": [0]}),
        ("encodec", {"target_bandwidths": [1e300]}),
        ("encodec", {"target_bandwidths": [float("nan")]}),
        ("dac", {"downsampling_ratios": [2] * 5000, "upsampling_ratios": [2] * 5000}),
        ("wav2vec2-bert", {"num_attention_heads": 0}),
        ("hubert", {"feat_extract_norm": "y" * 5000}),
        ("hubert", {"conv_stride": [10**9] * 100, "conv_kernel": [1] * 100, "conv_dim": [1] * 100}),
        ("wav2vec2-bert", {"layer_norm_eps": 10**400}),
        ("wav2vec2", {"num_conv_pos_embedding_groups": 0}),
        ("hubert", {"hidden_size": 2**80}),
    ],
)
def test_numbers_of_no_model_are_told_in_one_line(source, name, change):
    folder = source(name)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError) as caught:
        read_huggingface(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_weights_in_several_files(source, tmp_path):
    folder = source("hubert")
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, mine in parts.items():
        save_file({name: tensors[name] for name in mine}, folder / file)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, mine in parts.items() for name in mine}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_huggingface(folder).fingerprint() == read_huggingface(GOLDEN / "hubert").fingerprint()
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match="lacks model-00002-of-00002.safetensors"):
        read_huggingface(folder)
    for other in ("..", "a\0b", "x" * 300, ""):
        index["weight_map"] = dict.fromkeys(names, other)
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(UserError, match="which is no plain file name"):
            read_huggingface(folder)


def test_licence_and_origin_are_recorded_and_printed(source, tmp_path, capsys):
    folder = source("encodec")
    assert read_huggingface(folder).licence == "CC-BY-NC-4.0"  # what EnCodec is published under
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# A codec\nlicense: none\n")
    assert audiolm("import", folder, "--output", tmp_path / "out") == 0
    assert "licence   mit" in capsys.readouterr().out
    assert read_imported(tmp_path / "out").licence == "mit"
    flags = ("--licence", "proprietary", "--overwrite")
    assert audiolm("import", folder, "--output", tmp_path / "out", *flags) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["licence"], manifest["origin"], manifest["kind"]) == ("proprietary", "source", "encodec")
    assert audiolm("info", tmp_path / "out") == 0
    assert "proprietary" in capsys.readouterr().out


def test_an_imported_folder_checks_itself(tmp_path):
    folder = tmp_path / "imported"
    write_imported(read_huggingface(GOLDEN / "dac"), folder)
    assert is_imported(folder) and not is_imported(GOLDEN / "dac")
    with pytest.raises(UserError, match="exists; give another folder, or --overwrite"):
        write_imported(read_huggingface(GOLDEN / "dac"), folder)
    data = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(data[:-100])
    with pytest.raises(UserError, match="cut short"):
        read_imported(folder)
    (folder / "weights.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match="SHA-256"):
        read_imported(folder)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(UserError, match="is missing"):
        read_imported(folder)
    assert read_imported_manifest(folder, CODEC).licence == read_huggingface(GOLDEN / "dac").licence
    with pytest.raises(UserError, match="holds a dac, which is no encoder"):
        read_imported_manifest(folder, ENCODER)
    (folder / "weights.safetensors").write_bytes(data)
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace('"layer": null', '"layer": 3'))
    with pytest.raises(UserError, match="do not belong together"):
        read_imported(folder)
    for damaged in ('"third"', "1e999", "1.0"):
        (folder / "manifest.json").write_text(manifest.replace('"layer": null', f'"layer": {damaged}'))
        with pytest.raises(UserError, match="manifest.json is damaged"):
            read_imported(folder)
    (folder / "manifest.json").write_text(manifest.replace('"kind": "dac"', '"kind": "x"'))
    with pytest.raises(UserError, match="model_type is 'x'"):
        read_imported(folder)
    with pytest.raises(UserError, match="holds no imported model"):
        read_imported(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="exists"):
        write_imported(read_huggingface(GOLDEN / "dac"), tmp_path / "mine", overwrite=True)


@pytest.mark.parametrize("kmeans", [{"other": np.zeros(3, np.float32)}, {"centroids": np.zeros(3, np.float32)}, None])
def test_weights_that_a_writer_left_wrong_are_told(tmp_path, kmeans):
    model = read_huggingface(GOLDEN / "hubert")
    centroids = np.zeros((4, model.config.dim), np.float32)
    folder = tmp_path / "imported"
    write_imported(dataclasses.replace(model, kmeans=KMeans(1, centroids)), folder)
    arrays = {"model": model.params} | ({"kmeans": kmeans} if kmeans else {})
    data = weight_file.encode(weight_file.flatten(arrays))
    (folder / "weights.safetensors").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["weights"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"do not belong together|centroids are \[3\]"):
        read_imported(folder)


def test_fine_tuned_parameters_are_exported(tmp_path):
    model = read_huggingface(GOLDEN / "hubert")
    tuned = jax.tree.map(lambda leaf: leaf * np.float32(1.5), model.params)
    export_huggingface(model, tmp_path / "tuned", params=tuned)
    jax.tree.map(np.testing.assert_array_equal, read_huggingface(tmp_path / "tuned").params, tuned)
    with pytest.raises(UserError, match="holds config.json already"):
        export_huggingface(model, tmp_path / "tuned")


def test_arrays_of_other_shapes_are_refused():
    codec, encoder = (audiolm_jax.pretrained.load(GOLDEN / name) for name in ("dac", "hubert"))
    for call in (codec.encode, encoder.features):
        with pytest.raises(UserError, match=r"float32\[B, T\]"):
            call(np.zeros(100))
        with pytest.raises(UserError, match="lengths must be 1 numbers between 1 and 100"):
            call(np.zeros((1, 100)), [101])
    with pytest.raises(UserError, match="layer 99"):
        encoder.features(np.zeros((1, 1000)), layer=99)
    with pytest.raises(UserError, match=r"codes must lie in 0\.\."):
        codec.decode(np.full((1, 2, 2), codec.codebook_size))
    with pytest.raises(UserError, match="levels"):
        codec.decode(np.zeros((1, 2, 99), int))
    with pytest.raises(UserError, match=r"tokens int32\[B, F, q\]"):
        codec.decode(np.zeros((1, 2)))
