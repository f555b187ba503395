"""Phones of an item file with their own times, and what clusters tell of them."""

import numpy as np
import pytest

from audiolm_jax.evaluation.abx.item_file import read_item_file
from audiolm_jax.evaluation.layers.phone_information import phone_information, phone_spans
from tests.evaluation.abx_data import HEADER

# A sentence of seven phones, each 0.1 s longer than the one before.
PHONES = "sil b ae t iy n sil".split()
BORDERS = np.cumsum([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


def written(folder, places, file="one", speaker="anna"):
    """An item file of the triphones around some phones of the sentence."""
    rows = [
        f"{file} {BORDERS[k - 1]:.4f} {BORDERS[k + 2]:.4f} {PHONES[k]} {PHONES[k - 1]} {PHONES[k + 1]} {speaker}"
        for k in places
    ]
    path = folder / "made.item"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return read_item_file(path)


def test_neighbours_give_a_phone_its_times(tmp_path):
    items = written(tmp_path, [1, 2, 3, 4, 5])
    spans = phone_spans(items)
    found = {
        items.phones.distinct[phone]: (onset, offset)
        for phone, onset, offset in zip(spans.phone, spans.onset_seconds, spans.offset_seconds, strict=True)
    }
    # The first and the last want a border that no other row has.
    assert set(found) >= {"ae", "t", "iy"}
    for name, (onset, offset) in found.items():
        place = PHONES.index(name)
        assert (onset, offset) == pytest.approx((BORDERS[place], BORDERS[place + 1]))


def test_a_row_without_neighbours_is_left_out(tmp_path):
    assert len(phone_spans(written(tmp_path, [3]))) == 0
    # Rows of other files are no neighbours.
    written(tmp_path, [2, 4])
    text = (tmp_path / "made.item").read_text()
    written(tmp_path, [3], file="two")
    (tmp_path / "made.item").write_text(text + (tmp_path / "made.item").read_text().splitlines()[1] + "\n")
    items = read_item_file(tmp_path / "made.item")
    assert all(items.files.distinct[file] == "one" for file in phone_spans(items).file)


def test_frames_are_those_whose_centres_lie_in_the_phone(tmp_path):
    spans = phone_spans(written(tmp_path, [1, 2, 3, 4, 5]))
    file, frame, phone = spans.frames([80], 0.04)
    centres = (frame + 0.5) * 0.04
    for index in range(len(spans)):
        inside = (centres >= spans.onset_seconds[index]) & (centres < spans.offset_seconds[index])
        assert set(phone[inside]) == {spans.phone[index]}
        assert inside.sum() == pytest.approx((spans.offset_seconds - spans.onset_seconds)[index] / 0.04, abs=1)
    assert not file.any() and frame.max() < 80
    assert len(spans.frames([5], 0.04)[1]) < len(frame)  # no frame that the recording has not


def test_information_by_hand():
    phones = np.repeat([0, 1, 2], 10)
    assert phone_information(phones, phones * 5 + 1)["pnmi"] == pytest.approx(1.0)
    assert phone_information(phones, np.zeros(30, int))["pnmi"] == pytest.approx(0.0, abs=1e-12)
    # Two of three phones share a cluster: log 3 - (2 / 3) log 2 of log 3 nats are told.
    told = phone_information(phones, np.minimum(phones, 1))
    assert told["pnmi"] == pytest.approx(1 - 2 / 3 * np.log(2) / np.log(3))
    assert told["phone_purity"] == pytest.approx(2 / 3) and told["cluster_purity"] == pytest.approx(1.0)
