"""Lyra V2: what frame-by-frame whole numbers give of the small model, windows, joined levels, and its files."""

import dataclasses
import functools
import json
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import audiolm_jax
from audiolm_jax import cli
from audiolm_jax.errors import UserError
from audiolm_jax.files.plain_json import from_plain, to_plain
from audiolm_jax.pretrained.files.huggingface_folder import open_huggingface_folder
from audiolm_jax.pretrained.files.weight_map import read_weights, write_weights
from audiolm_jax.pretrained.lyra import lyra
from audiolm_jax.pretrained.lyra.lyra import Lyra
from audiolm_jax.pretrained.lyra.lyra_files import NAMES, LyraFolder, _layers, _Operator, _Tensor, is_lyra_folder
from audiolm_jax.pretrained.lyra.lyra_network import LyraConfig
from audiolm_jax.pretrained.lyra.lyra_weights import DEPTHWISE, GRID, TRANSPOSED, decoder_layers, encoder_layers
from tests.pretrained import golden_model, streamed_windows

# Fewer than the steps that its widest depthwise convolution remembers.
WINDOW_FRAMES = 5
GOLDEN = golden_model.GOLDEN / "lyra"
golden = functools.partial(golden_model.golden, lyra.KIND)
rows = functools.partial(golden_model.rows, lyra.KIND)
assert_rows = functools.partial(golden_model.assert_rows, lyra.KIND)


def changed(**changes) -> Lyra:
    """The small codec with another configuration."""
    return Lyra(dataclasses.replace(golden()[0].config, **changes))


def audiolm(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_a_recording_alone():
    codec, params, _, expected = golden()
    wave = expected["wave.2"]
    assert len(wave) % codec.hop_samples
    np.testing.assert_array_equal(codec.encode(params, wave[None])[0], expected["tokens.2"])


def test_samples_of_tokens():
    codec, params, _, expected = golden()
    tokens, num_frames = rows("tokens", 5)
    decoded = codec.decode(params, tokens, num_frames)
    assert decoded.shape[1] == tokens.shape[1] * codec.hop_samples
    assert_rows(decoded, "decoded", atol=1e-5)


def test_rows_of_a_padded_batch_are_those_alone():
    codec, params, _, _ = golden()
    samples, num_samples = rows("wave", 0.7)
    assert np.all(num_samples % codec.hop_samples)
    assert_rows(codec.encode(params, samples, num_samples), "tokens")


def test_windows_together_are_the_whole():
    codec, params, _, _ = golden()
    samples, num_samples = rows("wave", 0.7)
    assert_rows(streamed_windows.encoded(codec, params, samples, num_samples, WINDOW_FRAMES), "tokens")
    tokens, _ = rows("tokens", 0)
    assert_rows(streamed_windows.decoded(codec, params, tokens, WINDOW_FRAMES), "decoded", atol=1e-5)


def test_one_program_serves_all_windows():
    codec, params, _, expected = golden()
    first, second = streamed_windows.programs_after_each_of_two_windows(
        codec, params, expected["wave.0"], WINDOW_FRAMES
    )
    assert second == first


def test_without_rounding_the_sound_is_near_and_not_equal():
    codec, params, _, expected = golden()
    tokens, wanted = expected["tokens.1"][None], expected["decoded.1"]
    floating = np.asarray(changed(rounds_activations=False).decode(params, tokens))[0]
    error = np.sqrt(np.mean(np.square(floating - wanted)) / np.mean(np.square(wanted)))
    assert 1e-3 < error < 0.3


def test_a_joined_token_is_the_number_that_its_levels_write():
    codec, params, _, expected = golden()
    config, wave = codec.config, expected["wave.2"][None]
    assert (config.join_levels, config.num_codebooks) == (2, 7)
    alone = np.asarray(changed(join_levels=1, num_quantizers=7).encode(params, wave))
    assert alone.max() < config.level_size
    for joined in (2, 3):
        levels = config.num_codebooks // joined
        tokens = changed(join_levels=joined, num_quantizers=levels).encode(params, wave)
        digits = alone[..., : levels * joined].reshape(*alone.shape[:2], levels, joined)
        places = config.level_size ** np.arange(joined)[::-1]
        np.testing.assert_array_equal(tokens, (digits * places).sum(-1))


def test_latents_are_the_sum_of_the_entries_of_all_joined_levels():
    codec, params, _, expected = golden()
    tokens = expected["tokens.2"][None, :7, :2]
    digits = np.stack([tokens // codec.config.level_size, tokens % codec.config.level_size], axis=-1)
    wanted = sum(params["codebooks"][2 * q + d][digits[..., q, d]] for q in range(2) for d in range(2))
    np.testing.assert_allclose(codec.embed(params, tokens), wanted, atol=1e-5)


def test_fewer_levels_are_the_first_ones():
    _, params, _, expected = golden()
    two = changed(num_quantizers=2).encode(params, expected["wave.2"][None])
    np.testing.assert_array_equal(two[0], expected["tokens.2"][:, :2])


def test_weights_survive_an_export_to_the_last_bit():
    _, params, weight_map, _ = golden()
    tensors = write_weights(params, weight_map)
    theirs = open_huggingface_folder(GOLDEN).tensors()
    assert {name: tensor.shape for name, tensor in tensors.items()} == {n: t.shape for n, t in theirs.items()}
    jax.tree.map(np.testing.assert_array_equal, read_weights(tensors, weight_map, "again").params, params)


def test_config_of_the_published_model():
    assert lyra.KIND.read_config({"model_type": "lyra"}, {}) == LyraConfig()
    codec = Lyra(LyraConfig(join_levels=3, num_quantizers=10))
    assert (codec.sample_rate_hz, codec.hop_samples, codec.num_quantizers) == (16_000, 320, 10)
    assert (codec.codebook_size, codec.bitrate_bps()) == (4096, 6000)
    assert Lyra(LyraConfig()).bitrate_bps() == 9200
    assert codec.encoder_context is None and codec.decoder_context is None
    assert from_plain(LyraConfig, to_plain(codec.config), "config") == codec.config


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"num_quantizers": 47}, "num_quantizers is 47, but the weights hold 46 levels .* set 1 to 46"),
        ({"join_levels": 2, "num_quantizers": 24}, "set 1 to 23"),
        ({"join_levels": 5, "num_quantizers": 1}, r"16\^5 entries; set 1 to 4"),
        ({"join_levels": 0}, "join_levels is 0"),
        ({"edge_kernel_strides": 22}, "edge_kernel_strides is 22"),
        ({"slope": "steep"}, "slope is 'steep'"),
        ({"widths": 64}, "widths is 64"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(change, line):
    with pytest.raises(UserError, match=line):
        lyra.KIND.read_config(change, {})


def imported(folder, *flags):
    return audiolm("import", "lyra", GOLDEN, "--output", folder, *flags)


def test_levels_are_joined_at_the_import(tmp_path, capsys):
    assert imported(tmp_path / "lyra", "--join_levels", "3", "--json", "-") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["num_quantizers"], facts["codebook_size"], facts["licence"]) == (2, 512, "Apache-2.0")
    assert facts["bitrate_bps"] == 200 * 2 * 9
    model = audiolm_jax.pretrained.load(tmp_path / "lyra")
    wave = load_file(GOLDEN / "expected.safetensors")["wave.2"][None]
    tokens = model.encode(wave)
    np.testing.assert_array_equal(tokens, changed(join_levels=3, num_quantizers=2).encode(model.params, wave))
    assert imported(tmp_path / "one", "--join_levels", "3", "--num_quantizers", "1", "--float_activations") == 0
    config = audiolm_jax.pretrained.load(tmp_path / "one").config
    assert (config.num_quantizers, config.rounds_activations) == (1, False)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("lyra", GOLDEN.parent / "mimi"), "holds a mimi, not a lyra"),
        ((GOLDEN.parent / "mimi", "--join_levels", "2"), "go with a lyra, but this is a mimi"),
        ((GOLDEN.parent / "hubert", "--float_activations"), "go with a lyra, but this is a hubert"),
        (("lyra", GOLDEN, "--join_levels", "8"), "join_levels is 8"),
        (("lyra", GOLDEN, "--join_levels", "2", "--num_quantizers", "4"), "--num_quantizers is 4, this lyra has 3"),
        (("lyra", "nowhere"), "nowhere is no folder"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(tmp_path, capsys, arguments, line):
    assert audiolm("import", *arguments, "--output", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert line in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def graph(layers, tensors):
    """Operations as a published file has them, with the tensors of a checkpoint, and the step of each bias."""
    none = np.zeros(0, np.float32)

    def constant(data, scale=none):
        return _Tensor(data, False, np.asarray(scale, np.float32), np.zeros_like(scale))

    def computed(prefix=None):
        if prefix is None:
            return _Tensor(None, False, none, none)
        return _Tensor(None, True, tensors[f"{prefix}_scale"], tensors[f"{prefix}_zero_point"])

    operators, steps, x, before = [], {}, computed(), None
    for layer in layers:
        if before == TRANSPOSED and layer.kind != TRANSPOSED:
            x = computed()  # the sum of what several frames have given is on no grid
        before = layer.kind
        if layer.kind == GRID:
            y = computed(layer.name)
            operators += [_Operator("LEAKY_RELU", [x], [y])]
            x = y
            continue
        if layer.is_int8:
            # What is carried over joins in float32, and is put on the same grid again.
            joined, again = computed(), dataclasses.replace(x)
            operators += [_Operator("CONCATENATION", [computed(), computed()], [joined])]
            operators += [_Operator("QUANTIZE", [joined], [again])]
            x = again
        kernel, bias = tensors[f"{layer.name}.kernel"], tensors[f"{layer.name}.bias"]
        kernel = kernel[None, :, None] if layer.kind == DEPTHWISE else kernel[:, :, None]
        given, inner = constant(kernel), constant(bias)
        if layer.is_int8:
            scale = tensors[f"{layer.name}.kernel_scale"]
            per_kernel = scale.reshape(1, 1, 1, -1) if layer.kind == DEPTHWISE else scale.reshape(-1, 1, 1, 1)
            given = constant(np.rint(kernel / per_kernel).astype(np.int8), scale)
            step = x.scale * scale
            inner = constant(np.rint(bias / step).astype(np.int32), step)
            steps[f"{layer.name}.bias"] = step.max()
        y = computed(f"{layer.name}.output") if layer.is_int8 else computed()
        if layer.kind == TRANSPOSED:
            operators += [_Operator("TRANSPOSE_CONV", [computed(), given, x, inner], [y])]
            operators += [_Operator("SUB", [computed(), constant(bias)], [computed()])]
        else:
            name = "DEPTHWISE_CONV_2D" if layer.kind == DEPTHWISE else "CONV_2D"
            operators += [_Operator(name, [x, given, inner], [y])]
            x = y
    return operators, steps


@pytest.mark.parametrize("layers_of", [encoder_layers, decoder_layers])
def test_layers_are_found_in_the_order_of_the_operations(layers_of, tmp_path):
    codec, _, _, _ = golden()
    tensors, layers = open_huggingface_folder(GOLDEN).tensors(), list(layers_of(codec.config))
    operators, steps = graph(layers, tensors)
    read = _layers([operators, []], layers, tmp_path)
    part = layers[0].path.split(".")[0]
    assert set(read) == {name for name in tensors if name.startswith(part)}
    for name, array in read.items():
        # The bias of an int8 layer is in steps there; a transposed one has it in float32 besides.
        atol = 0.5 * steps.get(name, 0) * (".group" not in name or "grouped" in name)
        np.testing.assert_allclose(array, tensors[name], rtol=1e-6, atol=atol, err_msg=name)
    last = max(place for place, each in enumerate(operators) if "CONV" in each.name)
    with pytest.raises(UserError, match=r"layers that are not the \d+ of Lyra V2's"):
        _layers([operators[:last], []], layers, tmp_path)


def test_a_folder_without_one_of_the_files_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / NAMES[0]).write_bytes(b"TFL3")
    assert audiolm("import", "lyra", tmp_path, "--output", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "has no quantizer.tflite; copy all of lyra/model_coeffs" in told and told.count("\n") == 1


@pytest.mark.parametrize("data", [b"", b"no LiteRT file", bytes(range(256)) * 64])
def test_damaged_files_are_told_in_one_line(tmp_path, capsys, data):
    pytest.importorskip("ai_edge_litert")
    for name in NAMES:
        (tmp_path / name).write_bytes(data)
    assert audiolm("import", "lyra", tmp_path, "--output", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "soundstream_encoder.tflite is cut short or no LiteRT file" in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_litert_it_is_told_what_to_install(tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "ai_edge_litert"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    for name in NAMES:
        (tmp_path / name).write_bytes(b"TFL3")
    assert audiolm("import", "lyra", tmp_path, "--output", tmp_path / "out") == 2
    assert "pip install 'audiolm_jax[lyra]'" in capsys.readouterr().err


def test_a_licence_that_is_not_the_published_one_has_to_be_named(tmp_path):
    (tmp_path / "LICENSE").write_text("All rights reserved")
    with pytest.raises(UserError, match="not the Apache License"):
        _ = LyraFolder(tmp_path).licence
    (tmp_path / "LICENSE").write_text("Apache License\nVersion 2.0")
    assert LyraFolder(tmp_path).licence is None
    assert not is_lyra_folder(tmp_path)
