"""The report to read: Markdown, and a page that stands alone and says everything twice, in words and in plots."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from audiolm_jax.evaluation.generated.paper_values import PAPER_VALUES
from audiolm_jax.evaluation.report.report_markdown import markdown, paper_table
from audiolm_jax.evaluation.report.report_page import page
from audiolm_jax.evaluation.report.report_plots import axis_of, track
from audiolm_jax.evaluation.report.report_words import FigureRow, figure_rows, figure_words, paper_rows
from tests.evaluation.hand_made_report import hand_made_clips, hand_made_report

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Tree(HTMLParser):
    """Elements with their attributes, the text of each kind of element, and every tag that does not close."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.elements, self.wrong = [], [], []
        self.feed(text)
        self.wrong += self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def report():
    return hand_made_report()


@pytest.fixture(scope="module")
def text(report):
    return page(report, hand_made_clips())


@pytest.fixture(scope="module")
def tree(text):
    return Tree(text)


def test_the_page_is_whole_and_loads_nothing(text, tree):
    assert not tree.wrong
    sources = [a[name] for _, a in tree.elements for name in ("src", "href", "data") if name in a]
    assert sources and all(source.startswith(("data:", "#")) for source in sources)
    assert "http" not in re.sub(r"data:[^\"]*", "", text) and "@import" not in text and "url(" not in text


def test_the_page_can_be_used_without_seeing_it(tree):
    ids = [a["id"] for _, a in tree.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in tree.all("a")} <= set(ids)
    assert len(tree.all("caption")) == len(tree.all("table"))
    for _, attributes in tree.elements:
        if attributes.get("role") == "img":
            assert attributes["aria-label"]
        for name in ("aria-labelledby",):
            assert attributes.get(name, ids[0]) in ids
    assert all(a.get("scope") in ("row", "col") for a in tree.all("th") if a)
    assert all(a.get("aria-label") for a in tree.all("audio")) and len(tree.all("audio")) == 5


def test_the_page_shows_our_figures_beside_the_papers(text):
    for words in ("18.2 %", "13.2 to 23.2", "6.7 %", "2.99", "3.90", "not measured", "Table III"):
        assert words in text, words
    assert "here 18.2 %, interval 13.2 to 23.2; paper 6.7 %; chance 50.0 %" in text


def test_the_page_says_what_is_missing_and_escapes_what_it_is_given(text):
    assert "no folder of ZeroSpeech 2021 is given; give --sblimp DIR." in text
    assert "abx codec 2kbps (failed)" in text and "not defined" in text
    assert "&lt;b&gt;" in text and "training <b>" not in text
    assert "6 more in report.json" in text


def test_a_report_of_nothing_is_a_page_too(report):
    empty = dataclasses.replace(report, made=(), not_measured=())
    tree = Tree(page(empty))
    assert not tree.wrong and not tree.all("audio")
    assert {a["href"][1:] for a in tree.all("a")} <= {a["id"] for _, a in tree.elements if "id" in a}
    assert "Not measured" in markdown(empty) and paper_table(empty) == []


def test_markdown_has_a_row_for_every_figure(report):
    text = markdown(report)
    assert "| ABX within speaker, semantic tokens | 18.2 % | 13.2 to 23.2 | 6.7 % | Table I |" in text
    assert "| codes" not in text and "0.83 0.84" in text
    assert "- abx_codec_2kbps (failed): ValueError: broken; the stack is in a.failed.txt." in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)
    for made in report.made:
        for row in figure_rows(made.name, made.measurement) if made.name not in ("ladder", "codec_words") else ():
            assert f"| {row.words} | {row.text} |" in text


def test_a_ladder_is_a_row_for_each_measure_and_a_bar_for_each_rung(report, text):
    rows = markdown(report)
    assert "| measure | originals | codec alone | fine levels generated | coarse and fine generated |" in rows
    assert "| Word errors | 20.0 % (10.0 to 30.0) | 50.0 % (40.0 to 60.0) |" in rows
    assert "| ViSQOL |  | 3.00 (2.90 to 3.10) |  |  |" in rows
    assert '<p class="verdict">Most is lost at the coarse stage.</p>' in text and text.count('class="bar"') == 9


def test_codecs_are_rows_of_one_table(report, text):
    rows = markdown(report)
    assert "| heard | kbps | ViSQOL | words wrong (whisper-base) | characters wrong (whisper-base) |" in rows
    assert "| originals |  |  | 7.0 % (5.0 to 9.0) | 3.0 % (1.0 to 5.0) |" in rows
    assert "| Opus at 6 kbps | 5.6 | 3.40 (3.38 to 3.42) | 37.0 % (35.0 to 39.0) | 18.0 % (16.0 to 20.0) |" in rows
    table = text.partition('<table class="codecs">')[2].partition("</table>")[0]
    lines = [re.sub(r"<[^>]*>", " ", line).split() for line in re.findall(r"<tr>.*?</tr>", table)]
    assert [line[0] for line in lines] == ["heard", "originals", "codec", "codec", "Opus"]
    assert lines[3] == "codec at 6 kbps 6.0 3.10 3.08 to 3.12 27.0 % 25.0 to 29.0 13.0 % 11.0 to 15.0".split()


def test_every_figure_of_the_report_has_words(report):
    for made in report.made:
        for row in figure_rows(made.name, made.measurement):
            assert "_" not in row.words
    assert figure_words("wer_codec_1.5kbps") == ("word errors, codec at 1.5 kbps", "%")
    assert figure_words("visqol_opus_6kbps") == ("ViSQOL, Opus at 6 kbps", "MOS")
    assert figure_words("wer_fine") == ("word errors, fine levels generated", "%")
    assert figure_words("fine_nats_per_token") == ("fine stage", "nats")
    corrected = "semantic tokens, counting their own frequencies, corrected for their number"
    assert figure_words("semantic_unigram_nats_per_token")[0] == corrected
    assert figure_words("semantic_train_unigram_nats_per_token")[0] == "semantic tokens, counting training frequencies"
    assert figure_words("some_new_thing") == ("some new thing", "")


def test_paper_values_are_those_of_the_paper():
    found = {(value.measurement, value.figure): value for value in PAPER_VALUES}
    assert len(found) == len(PAPER_VALUES)
    expected = {
        ("abx_centroids", "within"): 6.7, ("abx_centroids", "across"): 7.6, ("abx_codec_2kbps", "within"): 22.4,
        ("abx_codec_2kbps", "across"): 28.7, ("abx_codec_6kbps", "within"): 17.8, ("abx_codec_6kbps", "across"): 26.6,
        ("codec", "visqol_speech_2kbps"): 3.3, ("codec", "visqol_speech_6kbps"): 3.9, ("wer", "wer_original"): 2.5,
        ("wer", "wer_reconstruction"): 2.6, ("wer", "wer_acoustic"): 6.0, ("wer", "cer_original"): 0.8,
        ("wer", "cer_reconstruction"): 0.9, ("wer", "cer_acoustic"): 3.4,
        ("speaker", "accuracy_reconstruction"): 100.0, ("speaker", "accuracy_acoustic"): 3.2,
        ("speaker", "accuracy_continuation"): 92.6, ("swuggy", "all"): 71.5, ("swuggy", "in_vocabulary"): 83.7,
        ("sblimp", "all"): 64.7, ("sblimp", "all_raw"): 67.5, ("detector", "balanced_accuracy"): 98.6,
    }  # fmt: skip
    assert {key: value.value for key, value in found.items()} == expected
    assert all(value.differs and value.protocol and value.where for value in PAPER_VALUES)


def test_what_makes_a_figure_easier_here_stands_beside_it(report, text):
    differs = {(value.measurement, value.figure): value.differs for value in PAPER_VALUES}
    length = "acoustic generation is given the length of the original"
    given = {key for key, words in differs.items() if length in words}
    assert given == {("wer", "wer_acoustic"), ("wer", "cer_acoustic"), ("speaker", "accuracy_acoustic")}
    levels = {key for key, words in differs.items() if "the first levels of one codec" in words}
    assert levels == {("codec", "visqol_speech_2kbps")}
    assert "rate of speech of its prompt" in differs["speaker", "accuracy_continuation"]
    # Where the report has the figures, page and Markdown say so.
    shown = [value for value, row in paper_rows(report) if row is not None and length in value.differs]
    assert shown and length in text and length in markdown(report)
    assert "by the split of its training" in text and "Held out: by the split" in markdown(report)


def test_ours_stands_beside_the_right_value(report):
    rows = {(value.measurement, value.figure): row for value, row in paper_rows(report)}
    assert rows["abx_centroids", "across"].value == pytest.approx(25.6)
    assert rows["codec", "visqol_speech_6kbps"].value == 2.99
    assert rows["sblimp", "all"] is None


def test_tracks_keep_to_their_axis():
    row = FigureRow("wer", "wer", "word errors", "%", 131.0, (90.0, 160.0))
    low, high = axis_of("%", [row])
    assert low == 0 and high >= 160
    assert axis_of("%", []) == (0.0, 100.0)
    places = re.findall(r"(?:x1|x2|cx)=\"([\d.]+)%\"", track(row, None, 0.0, 100.0))
    assert places and all(0 <= float(place) <= 100 for place in places)
