"""What the paper reports (Borsos et al. 2022, arXiv:2209.03143v2), to stand beside what is measured here.

Every value keeps its table and its protocol, and a sentence on what is always different here. Later work that
extends the paper's own protocol is left out: this page is about one system.
"""

import dataclasses

_ABX = "Libri-light's ABX on LibriSpeech dev-clean, its default caps"
_RESYNTHESIS = "LibriSpeech test-clean, 4 to 10 s (2.2 h), three samples each, Conformer Transducer-L as recogniser"
_SPEAKERS = "291 LibriSpeech speakers, prompts of 3 s from test-clean, 4 to 10 s, classifier heard on 1 s windows"
_ZEROSPEECH = "ZeroSpeech 2021 development set, four synthetic voices, log-likelihood divided by length"
_VISQOL = "LibriSpeech dev-clean, speech mode; clips and mapping are not stated"
_OTHER_ITEMS = "other recordings and alignments"
_SMALLER = "a semantic encoder of another size; other recordings and alignments"
_OTHER_VISQOL = "visqol-python with the exponential mapping; other recordings"
_FEWER_LEVELS = "the first levels of one codec through its one decoder, where the paper trained a decoder for each rate"
_OTHER_CLASSIFIER = "another classifier, trained on the data given, with its own number of speakers"
_OTHER_ASR = "a weaker recogniser, whose errors on the originals are the floor; other recordings"
_GIVEN_LENGTH = "acoustic generation is given the length of the original, where the paper's has to end by itself"
_GIVEN_NUMBER = (
    "a continuation has 7 s whatever is said; the number of its semantic tokens follows from the rate of speech of its "
    "prompt and of the training"
)


@dataclasses.dataclass(frozen=True)
class PaperValue:
    """One number of the paper.

    Attributes:
        metric: name of the command that measures it.
        measurement: name of ours that has the counterpart, as in report.json.
        figure: its name there.
        words: what it is, for readers.
        value: as printed in the paper, in `unit`.
        unit: "%" (ours are fractions, shown times 100) or "MOS".
        better: "lower" or "higher"; "" where neither is.
        where: table or section.
        protocol: how the paper measured it.
        differs: what is different here whatever the settings.
        chance: what guessing gives, in `unit`; None where that means nothing.
    """

    metric: str
    measurement: str
    figure: str
    words: str
    value: float
    unit: str
    better: str
    where: str
    protocol: str
    differs: str
    chance: float | None = None

    @property
    def scale(self) -> float:
        """What one of our figures is multiplied by to be in `unit`."""
        return 100.0 if self.unit == "%" else 1.0


def _abx(measurement: str, figure: str, what: str, value: float, differs: str = _OTHER_ITEMS) -> PaperValue:
    words = f"ABX {figure} speaker, {what}"
    return PaperValue("abx", measurement, figure, words, value, "%", "lower", "Table I", _ABX, differs, 50.0)


def _visqol(rate: str, value: float) -> PaperValue:
    figure, words = f"visqol_speech_{rate}kbps", f"ViSQOL of the codec at {rate} kbps"
    differs = f"{_OTHER_VISQOL}; {_FEWER_LEVELS}" if rate == "2" else _OTHER_VISQOL
    return PaperValue("codec", "codec", figure, words, value, "MOS", "higher", "Table I", _VISQOL, differs, 1.0)


def _wer(figure: str, words: str, value: float) -> PaperValue:
    differs = f"{_OTHER_ASR}; {_GIVEN_LENGTH}" if figure.endswith("_acoustic") else _OTHER_ASR
    return PaperValue("wer", "wer", figure, words, value, "%", "lower", "Table II", _RESYNTHESIS, differs)


def _speaker(figure: str, words: str, value: float, better: str) -> PaperValue:
    where, chance = "Table III", 100 / 291
    more = {"accuracy_acoustic": f"; {_GIVEN_LENGTH}", "accuracy_continuation": f"; {_GIVEN_NUMBER}"}
    differs = _OTHER_CLASSIFIER + more.get(figure, "")
    return PaperValue("speaker", "speaker", figure, words, value, "%", better, where, _SPEAKERS, differs, chance)


def _spot(task: str, figure: str, words: str, value: float, differs: str) -> PaperValue:
    return PaperValue(task, task, figure, words, value, "%", "higher", "Table IV", _ZEROSPEECH, differs, 50.0)


PAPER_VALUES = (
    _abx("abx_centroids", "within", "semantic tokens", 6.7, _SMALLER),
    _abx("abx_centroids", "across", "semantic tokens", 7.6, _SMALLER),
    _abx("abx_codec_2kbps", "within", "codec at 2 kbps", 22.4),
    _abx("abx_codec_2kbps", "across", "codec at 2 kbps", 28.7),
    _abx("abx_codec_6kbps", "within", "codec at 6 kbps", 17.8),
    _abx("abx_codec_6kbps", "across", "codec at 6 kbps", 26.6),
    _visqol("2", 3.3),
    _visqol("6", 3.9),
    _wer("wer_original", "word errors on the originals", 2.5),
    _wer("wer_reconstruction", "word errors on the codec's reconstructions", 2.6),
    _wer("wer_acoustic", "word errors on acoustic generations from true semantic tokens", 6.0),
    _wer("cer_original", "character errors on the originals", 0.8),
    _wer("cer_reconstruction", "character errors on the codec's reconstructions", 0.9),
    _wer("cer_acoustic", "character errors on acoustic generations from true semantic tokens", 3.4),
    _speaker("accuracy_reconstruction", "speaker kept by the codec", 100.0, "higher"),
    _speaker("accuracy_acoustic", "speaker kept by semantic tokens alone", 3.2, "lower"),
    _speaker("accuracy_continuation", "speaker kept by continuations of 3 s", 92.6, "higher"),
    _spot("swuggy", "all", "sWUGGY, all words", 71.5, "the gold file and the recordings that are given"),
    _spot("swuggy", "in_vocabulary", "sWUGGY, words of LibriSpeech", 83.7, "the frequencies of the gold file"),
    _spot("sblimp", "all", "sBLIMP", 64.7, "the gold file and the recordings that are given"),
    _spot("sblimp", "all_raw", "sBLIMP, likelihoods not divided by length", 67.5, "the gold file that is given"),
    PaperValue(
        "detector", "detector", "balanced_accuracy", "synthetic speech told from real speech", 98.6, "%", "",
        "the paper's text",
        "the same network, balanced sets, real speech passed through the codec, 1 s windows",
        "a detector of this bundle's own speech; a weaker generator is easier to tell", 50.0,
    ),
)  # fmt: skip

# What no command can measure, or no bundle of ours has the parts for.
WITHOUT_COUNTERPART = (
    "w2v-BERT tokens at 6000 bps (Table I): needs a residual quantizer on semantic features, which no bundle has.",
    "ViSQOL of audio from semantic tokens alone, 1.1 to 1.4 (Table I): needs a decoder of its own for them.",
    "The listening test, 51.2 % of 1000 judgements correct: needs people.",
    "Piano, preferred in 83.3 % of pairs: needs people, and a bundle trained on piano.",
)
