"""From prompt to waveform with untrained language models and tokenizers that can be computed by hand."""

import jax
import numpy as np
import pytest

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.errors import UserError
from audiolm_jax.generation import decode, stages
from audiolm_jax.generation.pipeline import Request, mean_run_frames
from audiolm_jax.generation.sampling import SamplingSettings, row_keys
from audiolm_jax.generation.stage_sampler import StageSampler
from audiolm_jax.generation.stages import add_fine, continue_semantic
from audiolm_jax.tokens.alignment import collapse
from tests.generation.toy_system import ALL, COARSE, CODES, HOP, RATE, sound, system


@pytest.mark.parametrize("prompt_samples", [640, 641, 7_777, 16_000, 40_001])
@pytest.mark.parametrize("seconds", [0.02, 0.501, 1.0])
def test_budgets_are_exact(prompt_samples, seconds):
    lm = system()
    prompt = sound(prompt_samples)
    (made,) = lm.generations(Request(prompt, prompt_seconds=1.0, seconds=seconds))
    used = min(prompt_samples, RATE)
    length = used + round(seconds * RATE)
    assert len(made.waveform.samples) == length and made.waveform.sample_rate_hz == RATE
    frames = -(-length // HOP)
    assert made.acoustic_tokens.shape == (frames, ALL)
    assert made.semantic_tokens.shape == (-(-frames // 2),)
    # The prompt stands at the beginning, in whole joint periods, as the codec renders it.
    known = used // 640 * 2
    codec = lm.bundle.codec
    heard = codec.encode({}, prompt.samples[None, : known * HOP])[0]
    np.testing.assert_array_equal(made.acoustic_tokens[:known], heard)
    assert made.prompt_seconds == known / 50
    rendered = codec.decode({}, made.acoustic_tokens[None])[0]
    np.testing.assert_array_equal(made.waveform.samples, rendered[:length])


def test_three_and_four_seconds_are_seven():
    waveform = system().generate(sound(5 * RATE), prompt_seconds=3, seconds=4, seed=1)
    assert len(waveform.samples) == 7 * RATE


def test_the_prompt_is_cut_before_it_is_heard():
    lm = system()
    lm.bundle.semantic.heard.clear()
    lm.generate(sound(5 * RATE), prompt_seconds=1.0, seconds=0.1)
    assert lm.bundle.semantic.heard == [RATE]
    long, short = sound(5 * RATE), Waveform(sound(5 * RATE).samples[:RATE], RATE)
    first, second = (lm.generate(p, prompt_seconds=1.0, seconds=0.5, seed=4).samples for p in (long, short))
    np.testing.assert_array_equal(first, second)


def test_seeds_and_batches():
    lm = system()
    prompt = sound(RATE)
    alone = lm.generate(prompt, seconds=1.5, seed=3)
    again = lm.generate(prompt, seconds=1.5, seed=3)
    other = lm.generate(prompt, seconds=1.5, seed=4)
    several = lm.generate(prompt, seconds=1.5, seed=3, num_samples=3)
    np.testing.assert_array_equal(alone.samples, again.samples)
    assert (alone.samples != other.samples).any()
    np.testing.assert_array_equal(alone.samples, several[0].samples)
    assert (several[0].samples != several[1].samples).any() and (several[1].samples != several[2].samples).any()


@pytest.mark.parametrize("collapsed", [True, False])
def test_unconditional(collapsed):
    (made,) = system(collapsed).generations(Request(mode="unconditional", seconds=3.03))
    assert len(made.waveform.samples) == round(3.03 * RATE) and made.prompt_seconds == 0
    assert made.acoustic_tokens.shape == (152, ALL) and made.semantic_tokens.shape == (76,)
    if collapsed:
        # 76 frames in runs of 1.5 frames are 51 tokens, at most 1.1 times that; an untrained model repeats itself.
        assert len(collapse(made.semantic_tokens)[0]) <= 57


def test_acoustic_keeps_the_words_and_draws_the_rest():
    lm = system()
    prompt = sound(RATE + 100)
    made = lm.generations(Request(prompt, mode="acoustic", num_samples=2))
    for one in made:
        np.testing.assert_array_equal(one.semantic_tokens, lm.bundle.semantic.tokenize({}, prompt.samples[None])[0])
        assert len(one.waveform.samples) == RATE + 100 and one.prompt_seconds == 0
    assert (made[0].acoustic_tokens != made[1].acoustic_tokens).any()
    (cut,) = lm.generations(Request(prompt, mode="acoustic", seconds=0.5))
    assert len(cut.waveform.samples) == RATE // 2


@pytest.mark.parametrize("mode", ["continuation", "acoustic", "fine", "unconditional"])
def test_a_generation_does_not_depend_on_its_company(mode):
    lm = system()
    requests = [
        Request(
            None if mode == "unconditional" else sound(length, seed),
            mode=mode,
            prompt_seconds=0.7,
            seconds=None if mode == "fine" else seconds,
            num_samples=num_samples,
            seed=seed,
        )
        for seed, (length, seconds, num_samples) in enumerate([(RATE, 0.5, 2), (9_000, 1.6, 1), (40_000, 2.5, 3)])
    ]
    together = lm.generations_together(requests, fixed_rows=4)
    turned = lm.generations_together(requests[::-1], fixed_rows=4)[::-1]
    for request, one, other in zip(requests, together, turned, strict=True):
        (alone,) = lm.generations_together([request], fixed_rows=4)
        for made in (other, alone, lm.generations(request)):
            assert [sample.sample_index for sample in made] == list(range(request.num_samples))
            for sample, expected in zip(made, one, strict=True):
                np.testing.assert_array_equal(sample.acoustic_tokens, expected.acoustic_tokens)
                np.testing.assert_array_equal(sample.semantic_tokens, expected.semantic_tokens)
                np.testing.assert_array_equal(sample.waveform.samples, expected.waveform.samples)
                assert sample.prompt_seconds == expected.prompt_seconds


def test_one_program_for_recordings_of_all_lengths():
    lm = system()
    lengths = (1.1, 1.7, 2.4, 3.1)
    requests = [Request(sound(round(s * RATE)), mode="acoustic", seed=index) for index, s in enumerate(lengths)]
    lm.generations_together(requests[:1], fixed_rows=5)
    before = decode._advance._cache_size()
    lm.generations_together(requests, fixed_rows=5)
    assert decode._advance._cache_size() == before


@pytest.fixture
def compiled():
    """What is compiled from here on: the seconds that each program took."""
    seconds = []

    def note(event, duration, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield seconds
    jax.monitoring.unregister_event_duration_listener(note)


def test_another_way_to_draw_compiles_nothing(compiled):
    lm, prompt = system(), sound(RATE)
    lm.generate(prompt, seconds=1.5, temperature=1.1)
    compiled.clear()
    ways = [
        {"temperature": 0.0}, {"temperature": 0.9}, {"temperature": (0.3, 0.0, 2.0)}, {"top_k": 3},
        {"top_k": (2, 0, 5), "temperature": 1.3}, {"top_p": 0.9}, {"top_p": (0.5, 1.0, 0.7), "top_k": 6},
    ]  # fmt: skip
    made = [lm.generate(prompt, seconds=1.5, seed=seed, **way) for seed, way in enumerate(ways)]
    assert compiled == []
    assert len({one.samples.tobytes() for one in made}) == len(ways)
    jax.jit(lambda x: x + len(ways))(1.0)
    assert len(compiled) > 0


def test_another_length_of_a_size_compiles_nothing(compiled):
    lm = system()
    lm.generate(sound(RATE), prompt_seconds=1.0, seconds=1.5)
    compiled.clear()
    for prompt_seconds, seconds in ((0.96, 1.5), (0.88, 1.32), (0.7, 1.41), (1.0, 1.27)):
        waveform = lm.generate(sound(RATE), prompt_seconds=prompt_seconds, seconds=seconds)
        assert len(waveform.samples) == round(prompt_seconds * RATE) + round(seconds * RATE)
    assert compiled == []


def test_generations_together_have_one_mode():
    requests = [Request(sound(RATE), mode="acoustic"), Request(sound(RATE), mode="fine")]
    with pytest.raises(ValueError, match="one mode"):
        system().generations_together(requests)
    assert system().generations_together([]) == []


def test_fine_keeps_the_coarse_tokens_and_draws_the_others():
    lm = system()
    prompt = sound(RATE + 100)
    made = lm.generations(Request(prompt, mode="fine", num_samples=2))
    heard = lm.bundle.codec.encode({}, prompt.samples[None])[0]
    for one in made:
        np.testing.assert_array_equal(one.acoustic_tokens[:, :COARSE], heard[:, :COARSE])
        assert (one.acoustic_tokens[:, COARSE:] != heard[:, COARSE:]).any()
        assert len(one.waveform.samples) == RATE + 100 and one.prompt_seconds == 0
    assert (made[0].acoustic_tokens != made[1].acoustic_tokens).any()
    with pytest.raises(UserError, match="no fine stage"):
        system(with_fine=False).generations(Request(prompt, mode="fine"))


def test_a_codec_whose_levels_are_all_coarse_has_no_fine_stage():
    (made,) = system(with_fine=False).generations(Request(sound(RATE), seconds=0.3))
    assert made.acoustic_tokens.shape == (65, ALL)


def sampler(name, samples=1, seed=0):
    decoder = system()._decoders[name]
    return StageSampler(decoder, SamplingSettings(), row_keys(seed, np.arange(samples), 9), lambda drawn, total: None)


def test_fine_chunks_know_nothing_of_each_other():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, CODES, (50, COARSE))
    whole = add_fine(sampler("fine"), [coarse], [3])[0]
    assert whole.shape == (47, ALL - COARSE)
    # Chunks are 20 frames: 3..22, 23..42, 43..49. A change in the second leaves the first and the third alone.
    changed = coarse.copy()
    changed[30] = (changed[30] + 1) % CODES
    other = add_fine(sampler("fine"), [changed], [3])[0]
    np.testing.assert_array_equal(whole[:20], other[:20])
    np.testing.assert_array_equal(whole[40:], other[40:])
    # The shorter last chunk is what it is alone.
    np.testing.assert_array_equal(add_fine(sampler("fine"), [coarse], [43])[0], whole[40:])


def test_fine_groups_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, CODES, (50, COARSE)) for _ in range(2)]
    whole = add_fine(sampler("fine", 2), coarse, [0, 0])
    monkeypatch.setattr(stages, "MOST_ROWS", 4)
    for one, other in zip(whole, add_fine(sampler("fine", 2), coarse, [0, 0]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_semantic_tokens_past_the_window_keep_the_prompt_and_the_count():
    prompt = np.repeat(np.arange(8), 3)
    for total in (24, 25, 100, 211):
        for one in continue_semantic(sampler("semantic", 2), [prompt] * 2, [total] * 2, [2.0] * 2):
            assert one.shape == (total,) and one[:24].tolist() == prompt.tolist()
            assert one.min() >= 0 and one.max() < 8


def test_the_mean_run_is_blended_from_training_and_prompt():
    nothing, slow = np.zeros(0, np.int32), np.repeat(np.arange(100) % 7, 4)
    assert mean_run_frames(system().bundle, slow) == 4
    assert mean_run_frames(system().bundle, nothing) == 1.5
    trained = system(provenance=(("semantic_mean_run_frames", 2.5),)).bundle
    assert mean_run_frames(trained, nothing) == 2.5
    # Training counts as much as 50 runs.
    assert mean_run_frames(trained, slow) == (100 * 4 + 50 * 2.5) / 150
    assert mean_run_frames(trained, slow[: 50 * 4]) == pytest.approx((4 + 2.5) / 2)
    means = [mean_run_frames(trained, slow[: 4 * runs]) for runs in range(101)]
    assert means == sorted(means) and means[-1] < 4


def test_a_slow_speaker_is_continued_slowly():
    """A sound that changes every five frames gives fewer semantic tokens than one that changes with every frame."""
    trained = system(provenance=(("semantic_mean_run_frames", 1.0),))
    runs = []
    for frames_each in (5, 1):
        codes = np.repeat(np.arange(100) % 7, frames_each)[:100]
        prompt = Waveform(np.repeat((codes + 0.5) / 8, 640).astype(np.float32), RATE)
        made = trained.generations(Request(prompt, prompt_seconds=4.0, seconds=4.0, seed=1))[0]
        np.testing.assert_array_equal(made.semantic_tokens[:100], codes)
        runs.append(len(collapse(made.semantic_tokens[100:])[0]))
    # (100 + 50) / (20 + 50) frames a run and a tenth more tokens at most, against one frame a run.
    assert runs[0] <= 1.1 * 100 * 70 / 150 + 1 < runs[1]


def test_progress_reaches_its_end_in_every_stage():
    told = {}

    def tell(name, done, total):
        told[name] = (done, total)

    system().generate(sound(RATE), seconds=1.5, on_progress=tell)
    assert set(told) == {"semantic", "coarse", "fine"}
    assert all(done == total for done, total in told.values())


def test_a_file_of_another_rate(tmp_path):
    write_audio(tmp_path / "prompt.wav", Waveform(sound(44_100).samples, 44_100))
    waveform = system().generate(tmp_path / "prompt.wav", seconds=0.5)
    assert waveform.sample_rate_hz == RATE and len(waveform.samples) == RATE + RATE // 2


def test_an_array_with_its_rate_is_the_prompt_that_a_waveform_is():
    prompt = sound(RATE)
    expected = system().generate(prompt, seconds=0.5, seed=2)
    assert system().generate(prompt.samples, seconds=0.5, seed=2, sample_rate_hz=RATE) == expected
    assert system().generate(prompt.samples.tolist(), seconds=0.5, seed=2, sample_rate_hz=np.int64(RATE)) == expected
    integers = np.round(prompt.samples * 32767).astype(np.int16)
    expected = system().generate(Waveform(integers / np.float32(32768), RATE), seconds=0.5, seed=2)
    assert system().generate(integers, seconds=0.5, seed=2, sample_rate_hz=RATE) == expected


def test_numbers_of_numpy_and_jax_are_numbers():
    plain = {
        "prompt_seconds": 1.0, "seconds": 0.5, "num_samples": 2, "seed": 3,
        "temperature": 1.0, "top_k": 4, "top_p": (0.5, 0.75, 1.0),
    }  # fmt: skip
    expected = system().generate(sound(RATE), **plain)
    numpys = {
        "prompt_seconds": np.float32(1.0), "seconds": np.array(0.5), "num_samples": np.int64(2), "seed": np.uint32(3),
        "temperature": jax.numpy.float32(1.0), "top_k": np.array([4, 4, 4]), "top_p": np.array([0.5, 0.75, 1.0]),
    }  # fmt: skip
    assert system().generate(sound(RATE), **numpys) == expected


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mode": "sing"}, "mode"),
        ({"mode": "unconditional"}, "takes no prompt"),
        ({"prompt": None}, "needs a prompt"),
        ({"seconds": 0.0}, "seconds"),
        ({"prompt_seconds": float("nan")}, "prompt_seconds"),
        ({"num_samples": 0}, "num_samples"),
        ({"seed": -1}, "seed"),
        ({"temperature": (1.0, 1.0)}, "temperature"),
        ({"top_p": 2.0}, "top_p"),
        ({"prompt": Waveform(np.zeros(600), RATE)}, "too short"),
        ({"prompt_seconds": 0.03}, "too short"),
        ({"prompt": np.zeros(RATE)}, "needs its rate"),
        ({"sample_rate_hz": RATE}, "have their own"),
        ({"prompt": np.full(RATE, np.nan), "sample_rate_hz": RATE}, "NaN"),
        ({"prompt": np.full(RATE, 3000.0), "sample_rate_hz": RATE}, "32768"),
        ({"prompt": np.zeros((2, RATE)), "sample_rate_hz": RATE}, "mono"),
        ({"prompt": np.zeros(RATE), "sample_rate_hz": "16000"}, "sample_rate_hz"),
        ({"seconds": "4"}, "seconds takes numbers"),
        ({"prompt_seconds": np.zeros(2)}, "prompt_seconds"),
        ({"prompt_seconds": None}, "prompt_seconds"),
        ({"num_samples": 1.5}, "num_samples"),
        ({"num_samples": True}, "num_samples"),
        ({"seed": None}, "seed"),
        ({"top_k": np.array([1.5, 2, 2])}, "top_k"),
    ],
)
def test_mistakes_are_told_in_one_line(change, says):
    arguments = {"prompt": sound(RATE)} | change
    with pytest.raises(UserError, match=says) as error:
        system().generate(**arguments)
    assert "\n" not in str(error.value)
