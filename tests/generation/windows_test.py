"""Windows draw every frame once."""

import pytest

from audiolm_jax.generation.windows import Window, plan_windows


def test_the_paper_s_slide():
    # 3 s prompt, 22 s in the end, windows of 10 s of which 3 s are reused, 50 Hz.
    assert plan_windows(150, 1100, 500, 150, 2) == [
        Window(0, 150, 500),
        Window(350, 500, 850),
        Window(700, 850, 1100),
    ]


def test_a_prompt_as_long_as_the_window():
    assert plan_windows(150, 350, 150, 150, 2) == [Window(74, 150, 224), Window(148, 224, 298), Window(222, 298, 350)]


@pytest.mark.parametrize("multiple", [1, 2, 3])
@pytest.mark.parametrize("length", [6, 7, 50])
def test_every_frame_once_and_never_more_than_a_window(length, multiple):
    for known in range(0, 60, 7):
        for total in range(known, 90, 5):
            drawn = known
            for view in plan_windows(known, total, length, 5, multiple):
                assert view.known == drawn and view.start <= view.known < view.stop <= view.start + length
                assert view.start % multiple == 0 and view.start >= 0
                assert view.known - view.start >= min(drawn, min(5, length // 2)) or view.start == 0
                drawn = view.stop
            assert drawn == total


def test_what_fits_is_one_window():
    assert plan_windows(9, 10, 10, 3) == [Window(0, 9, 10)]
    assert plan_windows(10, 10, 10, 3) == []
