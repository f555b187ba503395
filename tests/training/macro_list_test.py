"""Every macro of every experiment is listed once, with its value and its comment."""

from pathlib import Path

import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.training.macros import configuration
from audiolm_jax.training.macros.macro_list import in_words, list_macros

EXPERIMENTS = sorted(path.stem for path in (Path(__file__).parents[2] / "gin" / "exp").glob("*.gin"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_all_macros_with_values_and_comments(name):
    heading, parts = list_macros(name, ["SEED=5"])
    macros = [macro for part in parts for macro in part.macros]
    assert {macro.name: macro.value for macro in macros} == configuration.macros()
    assert len(macros) == len({macro.name for macro in macros})
    assert all(macro.comment for macro in macros) and all(part.title for part in parts)
    assert heading and {macro.name: macro.value for macro in macros}["SEED"] == 5
    text = in_words(name, ["SEED=5"])
    assert all(f"\n  {macro.name} = {macro.value!r}" in text for macro in macros)
    assert max(map(len, text.splitlines())) <= 120


def test_a_file_of_ones_own_declares_macros_too(tmp_path):
    path = tmp_path / "mine.gin"
    path.write_text(
        "# Mine.\n# Twice as long.\ninclude 'gin/exp/codec_small.gin'\n\n"
        "EVERY = 7  # [steps] between logs\nBARE = 3\nSTEPS = 4000\nLOG_EVERY = %EVERY\nEVAL_EVERY = %BARE\n"
    )
    heading, parts = list_macros(path)
    assert heading == "Mine.\nTwice as long."
    assert [(macro.name, macro.value, macro.comment) for macro in parts[-1].macros] == [
        ("EVERY", 7, "[steps] between logs"),
        ("BARE", 3, ""),
    ]
    assert "  STEPS = 4000                      [updates] of the whole run" in in_words(path)
    with pytest.raises(UserError, match="LOG_EVERY is 'y', but takes a whole number of at least 0"):
        list_macros(path, ["LOG_EVERY=y"])
    with pytest.raises(UserError, match="EVERY is 'x', but takes a whole number of at least 0"):
        list_macros(path, ["EVERY=x"])
