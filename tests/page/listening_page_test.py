"""The page of a generation: complete, self-contained and true to the sound."""

import base64
import io
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from audiolm_jax.audio import Waveform
from audiolm_jax.page.listening_page import Clip, TokenScales, page, spectrogram
from audiolm_jax.page.png import INK, VIRIDIS, colour, encode_png

SCALES = TokenScales(
    semantic_hz=25, semantic_vocab=1024, acoustic_hz=50, codebook_size=1024, num_coarse_quantizers=4
)
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Document(HTMLParser):
    """Collects the elements and fails on a tag that is closed out of turn."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag, **attributes):
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in attributes.items())]


def clip(seconds=2.0, prompt_seconds=0.8, **fields):
    rng = np.random.default_rng(0)
    times = np.arange(int(seconds * 16_000)) / 16_000
    return Clip(
        title="Continuation 1",
        waveform=Waveform(0.3 * np.sin(2 * np.pi * 1000 * times), 16_000),
        prompt_seconds=prompt_seconds,
        semantic_tokens=rng.integers(0, 1024, int(seconds * 25)),
        acoustic_tokens=rng.integers(0, 1024, (int(seconds * 50), 12)),
        **fields,
    )


def document(*clips):
    return Document(page(list(clips), SCALES, "A heading", "A sentence.", {"seed": "1", "bundle": "small"}))


def read_png(data):
    """uint8[height, width, 3] of a PNG as this project writes them."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, packed, size = 8, b"", None
    while position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", data, position + 8 + length)[0] == zlib.crc32(name + content)
        size = struct.unpack(">IIBBBBB", content) if name == b"IHDR" else size
        packed += content if name == b"IDAT" else b""
        position += 12 + length
    width, height = size[:2]
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def data_of(uri, kind):
    prefix = f"data:{kind};base64,"
    assert uri.startswith(prefix)
    return base64.b64decode(uri[len(prefix) :])


def test_png_reads_back():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    np.testing.assert_array_equal(read_png(encode_png(pixels)), pixels)


@pytest.mark.parametrize("bad", [np.zeros((2, 2, 3)), np.zeros((2, 2), np.uint8), np.zeros((0, 2, 3), np.uint8)])
def test_png_refuses_what_is_no_picture(bad):
    with pytest.raises(ValueError, match="uint8"):
        encode_png(bad)


def test_colours_run_from_first_to_last():
    np.testing.assert_array_equal(colour(np.array([0.0, 0.5, 1.0])), [INK[0], INK[2], INK[-1]])


def test_page_is_complete_and_needs_nothing_from_outside():
    doc = document(clip(), clip(prompt_seconds=0.0))
    assert len(doc.all("article")) == 2 and len(doc.all("figure")) == 8
    assert doc.all("html", lang="en") and doc.all("meta", name="viewport") and doc.all("title")
    for _, attributes in doc.elements:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    text = page([clip()], SCALES, "A heading", "A sentence.", {})
    assert not re.search(r"https?://|@import|url\(", text)
    for unit in ("time in seconds", "frequency in kHz", "amplitude", "25 per second", "50 frames per second", "dB"):
        assert unit in doc.text


def test_every_plot_and_player_has_a_text_for_those_who_do_not_see_it():
    doc = document(clip())
    plots = doc.all("div", role="img")
    assert len(plots) == 4
    for plot in plots:
        assert "The prompt ends at 0.80 s." in plot["aria-label"]
    assert doc.all("audio", **{"aria-label": "Continuation 1"})


def test_player_holds_the_sound():
    import soundfile

    doc = document(clip())
    samples, rate_hz = soundfile.read(io.BytesIO(data_of(doc.all("audio")[0]["src"], "audio/wav")))
    assert rate_hz == 16_000
    np.testing.assert_allclose(samples, clip().waveform.samples, atol=1e-4)


def test_line_stands_at_the_end_of_the_prompt():
    doc = document(clip(seconds=2.0, prompt_seconds=0.5))
    lines = [a for a in doc.all("i", **{"class": "end"}) if "style" in a]
    assert [line["style"] for line in lines] == ["left:25.000%"] * 4
    assert "prompt, 0.50 s" in doc.text and "generated, 1.50 s" in doc.text


@pytest.mark.parametrize("prompt_seconds", [0.0, 2.0])
def test_no_line_where_all_is_given_or_all_is_generated(prompt_seconds):
    doc = document(clip(seconds=2.0, prompt_seconds=prompt_seconds))
    assert not doc.all("i", **{"class": "end"})
    assert ("prompt, 2.00 s" in doc.text) == (prompt_seconds > 0)
    assert ("generated, 2.00 s" in doc.text) == (prompt_seconds == 0)


def test_tokens_are_drawn_one_by_one():
    doc = document(clip())
    picture = read_png(data_of(doc.all("img")[1]["src"], "image/png"))
    assert picture.shape == (12, 100, 3)
    np.testing.assert_array_equal(picture, colour(clip().acoustic_tokens.T / 1023, VIRIDIS))
    dashes = "".join(a["d"] for a in doc.all("path")[2:])
    assert dashes.count("M") == 50


def test_clip_without_tokens_shows_sound_only():
    doc = document(Clip("Prompt", Waveform(np.zeros(16_000), 16_000), prompt_seconds=1.0))
    assert len(doc.all("figure")) == 2


def test_spectrogram_shows_a_tone_at_its_pitch():
    levels_db = spectrogram(clip().waveform)
    assert levels_db.max() == 0 and levels_db.min() >= -70
    loudest = np.bincount(levels_db.argmax(axis=0)).argmax()
    expected = 96 * np.log10(1 + 1000 / 700) / np.log10(1 + 8000 / 700)
    assert abs(loudest - expected) < 2


@pytest.mark.parametrize("seconds", [0.001, 0.02, 1.0, 90.0])
def test_every_length_fits(seconds):
    doc = document(Clip("Short or long", Waveform(np.ones(int(seconds * 16_000)), 16_000)))
    picture = read_png(data_of(doc.all("img")[0]["src"], "image/png"))
    assert 1 <= picture.shape[1] <= 1700


def test_names_are_escaped():
    text = page([clip(note="<b>note</b>")], SCALES, "<script>alert(1)</script>", "a & b", {"<i>": "<u>"})
    assert "<script>alert" not in text and "<b>note" not in text and "<u>" not in text and "<dt><i>" not in text
