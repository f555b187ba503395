"""`audiolm train` on a directory: claimed by a configuration, resumed with the same, refused with another."""

import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.training import experiment, loop
from tests.data.tiny_corpora import ramp, write_recording


@pytest.fixture
def trained(monkeypatch):
    """What reaches the loop, which is replaced."""
    calls = []

    def train(learner, feed, directory, options, *rest):
        with directory.held():
            calls.append((learner, options))
            (directory.path / "checkpoints" / str(options.steps)).mkdir(parents=True)
            directory.mark_done(options.steps)

    monkeypatch.setattr(loop, "train", train)
    return calls


@pytest.fixture(autouse=True)
def speech(tmp_path_factory, monkeypatch):
    """A folder of two speakers, whose split goes with the run; the working directory, so that runs can name it."""
    folder = tmp_path_factory.mktemp("data")
    for name in "ab":
        write_recording(folder / "speech" / name / "x.wav", ramp(100))
    monkeypatch.chdir(folder)


def run(workdir, *overrides):
    return experiment.train("codec_small", workdir, overrides, "speech")


def test_the_same_command_goes_on_and_a_longer_one_too(tmp_path, trained):
    assert run(tmp_path, "STEPS=10") == 0
    assert run(tmp_path, "STEPS=10") == 0
    assert len(trained) == 1, "all steps were done"
    assert run(tmp_path, "STEPS=20", "EVAL_EVERY=3", "CHECKPOINT_EVERY=4") == 0
    assert trained[-1][1].steps == 20
    assert "STEPS = 20" in (tmp_path / "config.gin").read_text()


def test_another_configuration_is_refused_in_one_line(tmp_path, trained):
    run(tmp_path, "STEPS=10")
    with pytest.raises(UserError, match="another configuration.*BATCH_SIZE.*--workdir") as caught:
        run(tmp_path, "STEPS=20", "BATCH_SIZE=4")
    assert "\n" not in str(caught.value)
    assert "BATCH_SIZE = 4" not in (tmp_path / "config.gin").read_text()
    assert run(tmp_path, "STEPS=20", "BATCH_SIZE=4", "RESUME=force") == 0
    assert "BATCH_SIZE = 4" in (tmp_path / "config.gin").read_text()


def test_a_directory_with_a_run_can_be_refused_altogether(tmp_path, trained):
    run(tmp_path, "RESUME=never")
    with pytest.raises(UserError, match="holds a run already"):
        run(tmp_path, "RESUME=never")


def test_a_directory_without_a_checkpoint_takes_another_configuration(tmp_path, monkeypatch, trained):
    def ends_early(learner, feed, directory, *rest):
        with directory.held():
            (directory.path / "metrics.jsonl").write_text("")
            (directory.path / "checkpoints" / "7.orbax-checkpoint-tmp").mkdir(parents=True)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train", ends_early)
        run(tmp_path, "STEPS=10")
    assert "BATCH_SIZE = 8" in (tmp_path / "config.gin").read_text()
    assert run(tmp_path, "STEPS=10", "BATCH_SIZE=4", "RESUME=never") == 0
    assert "BATCH_SIZE = 4" in (tmp_path / "config.gin").read_text()


@pytest.mark.parametrize(
    ("name", "data", "overrides", "message"),
    [
        ("codec_small", "speehc", [], "speehc"),
        ("semantic_small", "tokens", [], "tokens"),
        ("codec_small", "speech", ["INIT_FROM=nowhere"], "INIT_FROM: no checkpoint in nowhere: there is no"),
        ("codec_small", "speech", ["MESH_DATA=7"], "MESH_DATA"),
    ],
)
def test_a_refused_first_start_leaves_no_directory(tmp_path, monkeypatch, name, data, overrides, message):
    monkeypatch.chdir(tmp_path)
    for speaker in ("a", "b"):
        write_recording(tmp_path / "speech" / speaker / "x.wav", ramp(16_000))
    with pytest.raises(UserError, match=message):
        experiment.train(name, "work", overrides, data)
    assert not (tmp_path / "work").exists()
