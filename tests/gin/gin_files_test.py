"""Every gin file parses, builds its objects, and declares each macro once; every slip of the pen is an error."""

import atexit
import dataclasses
import functools
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import gin
import jax
import pytest

from audiolm_jax.codec.soundstream import SoundStreamConfig
from audiolm_jax.data.corpora.corpora import MaestroCorpus
from audiolm_jax.errors import UserError
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.semantic.tokenizer import SemanticTokenizerConfig
from audiolm_jax.semantic.w2v_bert import W2vBertConfig
from audiolm_jax.tokens.layout import TokenLayout
from audiolm_jax.training import experiment
from audiolm_jax.training.macros import configuration
from audiolm_jax.training.macros.former_experiments import FORMER_EXPERIMENTS
from audiolm_jax.training.saved.warm_start import continue_from, init_from

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "gin" / "exp").glob("*.gin"))
FILES = sorted((ROOT / "gin").rglob("*.gin"))
CLASSIFIERS = ("detector", "speaker_classifier")
DECLARATION = re.compile(r"^([A-Z][A-Z0-9_]*) = (.*?)(  # (.+))?$")


def settings_for(name):
    macro = {"cluster_small_again": "TEACHER"} | dict.fromkeys(
        ("kmeans_small", "kmeans_librilight_paper", "kmeans_maestro_paper", "kmeans_piano_small"), "W2V_BERT"
    )
    macro = macro.get(name)
    return [f"{macro}=/nowhere"] if macro else []


@functools.cache
def folder_of_classes():
    """Classes are counted when a classifier is built, so it needs a folder with some; their files may be empty."""
    root = Path(tempfile.mkdtemp(prefix="audiolm_gin_test_"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for name in ("continuation/a/1", "continuation/b/1", "reconstruction/a/1", "reconstruction/b/1"):
        (root / name).parent.mkdir(parents=True)
        (root / f"{name}.wav").touch()
    return str(root)


def load(name, *overrides):
    data = folder_of_classes() if name in CLASSIFIERS else "/nowhere"
    return experiment.load(name, [*settings_for(name), *overrides], data)


def includes(path):
    """A gin file and all that it includes."""
    found = [path]
    for name in re.findall(r"^include '(.+)'$", path.read_text(), re.MULTILINE):
        found += includes(ROOT / name)
    return list(dict.fromkeys(found))


def macros_of(path):
    matches = (DECLARATION.match(line) for line in path.read_text().splitlines())
    return {match[1]: match[4] for match in matches if match}


@functools.cache
def macros_of_experiment(name):
    load(name)
    return tuple(configuration.macros())


def test_the_folder_of_gin_files_is_no_package():
    # With an __init__.py it would be imported in place of gin-config.
    assert not list((ROOT / "gin").rglob("*.py"))
    assert gin.__file__ != str(ROOT / "gin" / "__init__.py")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_builds_and_its_macros_take_effect(name):
    built, text = load(name)
    state = jax.eval_shape(built.learner.init, jax.random.key(0), built.feed.batch_shapes())
    assert state.step.shape == ()
    operative = gin.operative_config_str()
    for macro in macros_of(ROOT / "gin" / "exp" / f"{name}.gin"):
        assert re.search(rf"^{macro} = ", operative, re.MULTILINE), f"{macro} is set and touches nothing"
    assert "STEPS = " in text and "=====" not in text


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_only_includes_and_sets_macros_that_are_declared_once(name):
    path = ROOT / "gin" / "exp" / f"{name}.gin"
    included = includes(path)[1:]
    declared = [macro for file in included for macro, comment in macros_of(file).items() if comment]
    assert len(declared) == len(set(declared)), "a macro is declared twice"
    assert set(macros_of(path)) <= set(declared)
    allowed = ("#", "include ", "from ", *(f"{macro} = " for macro in declared))
    assert all(line.startswith(allowed) for line in path.read_text().splitlines() if line)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_that_binds_registers_dynamically(path):
    text = path.read_text()
    assert text.startswith("# "), "the first line says what the file is"
    if re.search(r"^[a-z_]+\.", text, re.MULTILINE):
        assert "from __gin__ import dynamic_registration" in text


def test_the_codecs_have_their_sizes():
    # SoundStream's own, with C_enc = C_dec = 32, are what its configuration is without any setting.
    assert load("codec_librilight_paper")[0].learner.config == SoundStreamConfig()
    assert load("codec_small")[0].learner.config == SoundStreamConfig(
        stem="spectrum", stem_stride=80, strides=(2, 2, 1), main_path="linear",
        encoder_channels=(96, 128, 192, 192), decoder_channels=(160, 224, 320, 320), embed_dim=32,
    )  # fmt: skip


def test_the_encoders_have_their_sizes_and_k_means_takes_them():
    small = W2vBertConfig(
        dim=144, num_heads=4, mlp_dim=576, contrastive_layers=2, mlm_layers=2, frontend_channels=32, codebook_size=256,
        code_dim=64, dropout=0.0, diversity_weight=1.0, gumbel_end=0.5, gumbel_decay=0.9993, scan_unroll=2,
    )  # fmt: skip
    for name in ("w2v_bert_small", "cluster_small", "cluster_small_again", "best_rq_small"):
        assert load(name)[0].learner.config == small
    # w2v-BERT XL, and AudioLM's layer: 7 of the masked-prediction module, after 12 others.
    large = W2vBertConfig(compute_dtype="bfloat16")
    assert load("w2v_bert_xl_librilight_paper")[0].learner.config == large
    tokenizer = load("kmeans_small")[0].learner.tokenizer
    assert tokenizer == SemanticTokenizerConfig(encoder=small, layer=4, window_frames=250, margin_frames=25)
    tokenizer = load("kmeans_librilight_paper")[0].learner.tokenizer
    assert tokenizer == SemanticTokenizerConfig(encoder=large, layer=19)


def test_the_stages_have_the_papers_sizes():
    for stage in ("semantic", "coarse", "fine"):
        learner = load(f"{stage}_librilight_paper")[0].learner
        assert learner.config == TransformerConfig(
            num_layers=12, num_heads=16, embed_dim=1024, mlp_dim=4096, compute_dtype="bfloat16", remat="dots",
            unroll=False,
        )  # fmt: skip
        assert learner.stage == load(f"{stage}_librilight_paper")[0].feed.stage


def test_the_papers_codec_has_the_papers_losses():
    learner = load("codec_librilight_paper")[0].learner
    weights = learner.loss_weights
    assert (weights.reconstruction, weights.adversarial, weights.feature) == (1, 1, 100)
    assert not (weights.log_mel or weights.mel or weights.correlation or weights.relative_features)
    assert (learner.quantizer_start_step, learner.discriminator_start_step, learner.full_rate_share) == (0, 0, 0)
    assert load("codec_small", "NUM_QUANTIZERS=3", "CODEBOOK_SIZE=16384")[0].learner.config.codebook_size == 16384


def test_the_papers_piano_has_three_levels_of_16384_codes_and_no_fine_stage():
    for part in ("codec", "w2v_bert_xl", "kmeans", "semantic", "coarse"):
        assert load(f"{part}_maestro_paper")[0].options == load(f"{part}_librilight_paper")[0].options
    config = load("codec_maestro_paper")[0].learner.config
    assert config == SoundStreamConfig(num_quantizers=3, codebook_size=16384)
    assert config.sample_rate_hz / config.hop_samples * 3 * 14 == 2100
    assert isinstance(load("codec_maestro_paper")[0].feed.corpora[0], MaestroCorpus)
    speech, piano = (load(f"coarse_{corpus}_paper")[0].learner for corpus in ("librilight", "maestro"))
    assert piano.config == speech.config and piano.stage.crop_seconds == 10
    assert piano.stage == dataclasses.replace(
        speech.stage,
        layout=TokenLayout(1024, 16384, 3),
        target=dataclasses.replace(speech.stage.target, num_levels=3),
    )
    alone = load("acoustic_maestro_paper")[0].learner.stage
    assert alone.prefix is None and alone.target == piano.stage.target and alone.crop_seconds == 10
    assert load("semantic_maestro_paper")[0].learner.stage == load("semantic_librilight_paper")[0].learner.stage


def test_the_small_piano_agrees_with_itself():
    codec, kmeans = load("codec_piano_small")[0].learner.config, load("kmeans_piano_small")[0].learner.tokenizer
    assert load("best_rq_piano_small")[0].learner.config == kmeans.encoder
    assert load("best_rq_piano_small")[0].learner.perturbation.share == 0  # a warped note is another note
    names = ("semantic", "coarse", "acoustic")
    semantic, coarse, acoustic = (load(f"{name}_piano_small")[0].learner.stage for name in names)
    for stage in (coarse, acoustic):
        assert (stage.target.num_levels, stage.layout.codebook_size) == (codec.num_quantizers, codec.codebook_size)
    assert semantic.layout.semantic_vocab == coarse.layout.semantic_vocab == kmeans.num_clusters
    assert not semantic.collapse_repeats and not coarse.collapse_repeats


def test_the_stages_have_the_papers_crops():
    for name, crop_seconds in (("semantic", 30), ("coarse", 10), ("fine", 3)):
        for setting in ((), ("REMAT=none",), ("NUM_LAYERS=24",)):
            built = load(f"{name}_librilight_paper", *setting)[0]
            assert built.learner.stage.crop_seconds == crop_seconds
            assert (built.feed.batch_size, built.options.steps) == (256, 1_000_000)
            assert built.learner.config.num_layers == (24 if setting == ("NUM_LAYERS=24",) else 12)


def test_classifiers_have_the_papers_shape_and_the_classes_of_their_data():
    for name in CLASSIFIERS:
        config = load(name)[0].learner.config
        assert config.channels == (64, 128, 256, 256, 512, 512)
        assert (config.num_mels, config.frames, config.window_samples) == (64, 100, 400)
        assert config.class_names == ("continuation", "reconstruction")


def test_overrides_need_no_quotes_and_are_parsed_last():
    built, text = load("codec_small", "STEPS=7", "SCHEDULE=constant", "STRIDES=(5,4,1)")
    assert built.options.steps == 7
    assert "SCHEDULE = 'constant'" in text


def test_a_run_starts_from_one_other_run_in_one_way():
    assert load("codec_small")[0].warm_start is None
    assert load("codec_small", "INIT_FROM=a")[0].warm_start == init_from("a")
    assert load("codec_small", "CONTINUE_FROM=a")[0].warm_start == continue_from("a")
    with pytest.raises(UserError, match="INIT_FROM and CONTINUE_FROM are both set"):
        load("codec_small", "INIT_FROM=a", "CONTINUE_FROM=b")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("STEPP=5", "no macro STEPP; did you mean STEPS"),
        ("STEPS", "MACRO=VALUE"),
        ("SCHEDULE=linear", "rsqrt, cosine, constant; change SCHEDULE"),
        ("STRIDES=(2,4)", "2 strides need 3 widths, not (96, 128, 192, 192); change STRIDES"),
        ("RESUME=maybe", "auto, force or never"),
        ("START_LATENTS=100", "START_LATENTS is 100, but 1024 entries"),
        ("RESIDUAL_UNIT=half", "RESIDUAL_UNIT is 'half', but takes full or separable"),
        ("BATCH_SIZE=two", "BATCH_SIZE is 'two', but takes a whole number of at least 1 (the gin file has 8)"),
        ("BATCH_SIZE=2.5", "BATCH_SIZE is 2.5, but takes a whole number of at least 1 (the gin file has 8)"),
        ("BATCH_SIZE=True", "BATCH_SIZE is True, but takes a whole number"),
        ("PEAK_LEARNING_RATE='fast'", "PEAK_LEARNING_RATE is 'fast', but takes a number of at least 0"),
        ("PEAK_LEARNING_RATE=1e999", "PEAK_LEARNING_RATE is inf, but takes a number of at least 0"),
        ("CROP_SAMPLES=1", "CROP_SAMPLES is 1, but takes a whole number of at least 2048 and a multiple of 320"),
        ("CROP_SAMPLES=8001", "CROP_SAMPLES is 8001, but takes a whole number of at least 2048 and a multiple of 320"),
        ("STRIDES=[2,4,5,8]", "STRIDES is [2, 4, 5, 8], but takes several in parentheses"),
        ("MIXTURE=(0.5,0.5)", "2 weights for 1 folder of data; give one for each --data, in order; change MIXTURE"),
        ("MIXTURE=(0.5,0)", "MIXTURE is (0.5, 0), but takes several in parentheses, each a number above 0 or None"),
        ("MIXTURE=days", "MIXTURE is 'days', but takes several in parentheses, each a number above 0 or None or hours"),
        ("MIXTURE=0.5", "MIXTURE is 0.5, but takes several in parentheses, each a number above 0 or None"),
        ("GAIN_DB=3", "GAIN_DB is 3, but takes (a number, a number) in parentheses or None"),
        ("COMPUTE_DTYPE=float16", "COMPUTE_DTYPE is 'float16', but takes float32 or bfloat16"),
        ("CLIP_NORM=None", "CLIP_NORM is None, but takes a number above 0"),
        ("BALANCE_SPEAKERS=no", "BALANCE_SPEAKERS is 'no', but takes True or False"),
        ("GENERATOR_OPTIMIZER=@muon.muon()", "GENERATOR_OPTIMIZER is '@muon.muon()', but takes an object"),
        ("SEED=" + "9" * 5000, "SEED is '99999"),
    ],
)
def test_a_wrong_override_is_one_line(override, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load("codec_small", override)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["codec_small", "kmeans_small", "semantic_small", "fine_small"])
def test_one_macro_mixes_folders_of_sound_and_folders_of_tokens(name):
    """The weights stand in the order of --data; whole numbers will do."""
    folders = ["/nowhere/libri", "/nowhere/phrases", "/nowhere/espeak"]
    built, _ = experiment.load(name, [*settings_for(name), "MIXTURE=(5,3,2)"], folders)
    assert built.feed.weights == (5.0, 3.0, 2.0)
    assert experiment.load(name, settings_for(name), folders)[0].feed.weights is None
    assert experiment.load(name, [*settings_for(name), "MIXTURE=hours"], folders)[0].feed.weights == "hours"
    with pytest.raises(UserError, match="^2 weights for 3 folders of data; .*; change MIXTURE") as caught:
        experiment.load(name, [*settings_for(name), "MIXTURE=(5,3)"], folders)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("w2v_bert_small", "CROP_SAMPLES=640", "CROP_SAMPLES is 640, but takes a whole number of at least 7040"),
        ("cluster_small", "TARGET_CLUSTERS=(500, 40000)", "start_frames is 32768, fewer than the 40000 clusters"),
        ("cluster_small", "HEAD=linear", "HEAD is 'linear', but takes cosine or projection"),
        ("cluster_small_again", "TEACHER_LAYER=5", "layer 5 is not among the layers 0 to 4 of the teacher"),
        ("kmeans_small", "CROP_SAMPLES=1", "CROP_SAMPLES is 1, but takes a whole number of at least 640"),
        ("semantic_small", "CROP_SECONDS=0.001", "shorter than one joint frame (with --set CROP_SECONDS=0.001)"),
        ("semantic_small", "EMBED_DIM=190", "embed_dim 190 is no multiple of num_heads 4; set head_dim; change"),
        ("fine_small", "NUM_QUANTIZERS=4", "num_quantizers, got 4 and 4; a codec whose levels are all coarse"),
        ("detector", "SAMPLE_RATE=1", "sample_rate_hz 1 has no sample in a hop of 0.01 s; change SAMPLE_RATE"),
    ],
)
def test_a_value_that_does_not_go_with_the_others_is_one_line(name, override, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load(name, override)
    assert "\n" not in str(caught.value) and override.partition("=")[0] in str(caught.value)


def probes(value):
    """Wrong values for a macro that has a value of this kind, and odd ones."""
    if isinstance(value, bool):
        return ["two", 2, None]
    if isinstance(value, (int, float)):
        return ["two", "None", 2.5, 0, -1, (1,)]
    if isinstance(value, tuple):
        return [7, (), ("a",) * len(value), (0,) * len(value), list(value)]
    return ["text", 7, (1, 2)]


@pytest.mark.parametrize(
    "name", ["codec_small", "w2v_bert_small", "kmeans_small", "coarse_small", "fine_small", "detector"]
)
def test_any_wrong_value_names_its_macro_or_builds(name):
    load(name)
    macros = configuration.macros()
    refused = 0
    for macro, usual in macros.items():
        for value in probes(usual) if macro not in ("DATA_DIR", "W2V_BERT") else ():
            try:
                built, _ = load(name, f"{macro}={value}")
            except UserError as error:
                assert macro in str(error) and "\n" not in str(error), error
                refused += 1
            else:
                batch = built.feed.batch_shapes()
                assert jax.eval_shape(built.learner.init, jax.random.key(0), batch).step.shape == (), macro
    assert refused > 2 * len(macros)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_macro_says_what_it_takes(name):
    load(name)
    known = configuration._parameters()
    for macro in configuration.macros():
        assert any(annotation is not Any for annotation in known.get(macro, [])), f"{macro}: no parameter is annotated"


def test_whole_numbers_are_numbers_where_numbers_are_wanted():
    built, text = load("w2v_bert_small", "MASK_START=0", "GAIN_DB=(-3, 3)")
    start, gain_db = built.learner.config.mask_start_probability, built.feed.gain_db
    assert (start, gain_db) == (0, (-3, 3)) and {type(one) for one in (start, *gain_db)} == {float}
    assert "MASK_START = 0\n" in text  # as it was written: a run that began with it goes on


def test_text_needs_no_quotes_where_only_text_fits():
    assert load("codec_small", "INIT_FROM=2024")[0].init_from == "2024"
    assert load("codec_small", "INIT_FROM=None")[0].init_from is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("NOTHING = 3", "macro NOTHING touches nothing"),
        ("soundstream.SoundStreamConfig.dim = 3", "doesn't have a parameter named 'dim'"),
        ("soundstream.SoundStream.config = None", "SoundStream.config touches nothing"),
        ("include 'gin/run/nowhere.gin'", "gin/run/nowhere.gin"),
        ("from audiolm_jax import nowhere", "nowhere"),
        ("STEPS = = 3", "Unable to parse"),
        ("STEPS = 2.5", "mine.gin: STEPS is 2.5, but takes a whole number of at least 1"),
        ("loop.RunOptions.steps = 'all'", "mine.gin: RunOptions.steps is 'all', but takes a whole number"),
        ("STEPS = (", "mine.gin"),
        ("STEPS = (3", "line 6: EOF in multi-line statement"),
        ("NAME = \'\'\'a\nb", "EOF in multi-line string"),
        ("STEPS = " + "[" * 5000, "nested too deep"),
        ("include 'mine.gin'", "nested too deep"),
        ("STEPS = %STEPS", "a macro refers to itself"),
        ("EVAL_EVERY = %LOG_EVERY\nLOG_EVERY = %EVAL_EVERY", "a macro refers to itself"),
        ("N" + "O" * 5000 + " = 3", " ... touches nothing"),
    ],
)
def test_a_wrong_line_in_a_file_is_one_line(tmp_path, monkeypatch, line, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.gin"
    head = (
        "from __gin__ import dynamic_registration\nfrom audiolm_jax.codec import soundstream\n"
        "from audiolm_jax.training import loop\n"
    )
    path.write_text(f"{head}include 'gin/exp/codec_small.gin'\n{line}\n")
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        experiment.load(path, [], "/nowhere")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_names_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("codec_small", "codec_small.gin", "gin/exp/codec_small.gin"):
        assert configuration.find(name) == ROOT / "gin" / "exp" / "codec_small.gin"
    assert load("codec_small")[0].learner.name == "codec"
    with pytest.raises(UserError, match="codec_smal'.*codec_small"):
        configuration.find("codec_smal")


def test_a_former_name_is_told_with_what_it_is_now():
    assert len(FORMER_EXPERIMENTS) == 15 and not set(FORMER_EXPERIMENTS) & set(EXPERIMENTS)
    for former, now in FORMER_EXPERIMENTS.items():
        for name in (former, f"gin/exp/{former}.gin"):
            with pytest.raises(UserError, match=re.escape(f"'{name}' any more; write {now}")):
                configuration.find(name)
        name, *settings = now.replace("--set ", "").split()
        assert set(setting.partition("=")[0] for setting in settings) <= set(macros_of_experiment(name))


def test_data_must_be_named():
    for name in ("codec_small", "semantic_small", *CLASSIFIERS):
        with pytest.raises(UserError, match="--data DIR"):
            experiment.load(name)
    with pytest.raises(UserError, match="W2V_BERT"):
        experiment.load("kmeans_small", [], "/nowhere")
    with pytest.raises(UserError, match="--set TEACHER=DIR"):
        experiment.load("cluster_small_again", [], "/nowhere")


def test_a_stored_configuration_builds_the_same_objects(tmp_path):
    built, text = load("coarse_small", "STEPS=5")
    (tmp_path / "config.gin").write_text(text)
    again, text_again = experiment.load(tmp_path / "config.gin")
    assert text_again == text
    assert again.learner.stage == built.learner.stage and again.learner.config == built.learner.config
    assert again.options == built.options


def test_k_means_on_an_encoder_of_other_sizes_says_which_macro_to_set(tmp_path):
    (tmp_path / "config.gin").write_text(load("w2v_bert_small", "DIM=32")[1])
    with pytest.raises(UserError, match=r"has DIM = 32, this run DIM = \d+; add --set 'DIM=32'"):
        experiment.load("kmeans_small", [f"W2V_BERT={tmp_path}"], "/nowhere")
    experiment.load("kmeans_small", [f"W2V_BERT={tmp_path}", "DIM=32"], "/nowhere")
    with pytest.raises(UserError, match="add --set 'DIM=32'"):
        experiment.load("cluster_small_again", [f"TEACHER={tmp_path}"], "/nowhere")
