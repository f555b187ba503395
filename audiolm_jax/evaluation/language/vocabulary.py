"""The words of a closed language, in the form in which what a recogniser hears is compared with them."""

import dataclasses
import hashlib
from pathlib import Path

from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.words.text_normalisation import normalise
from audiolm_jax.evaluation.words.transcripts import read_texts


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """All words of a language.

    Attributes:
        words: as `normalise` writes them.
        name: where they come from, for people.
    """

    words: frozenset[str]
    name: str = ""

    @classmethod
    def read(cls, path: str | Path) -> "Vocabulary":
        """The words of a file of text in the language: transcripts, or any texts or list of words.

        Raises:
            UserError: it is no file of UTF-8 text, or holds no word.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(
                f"--vocabulary {path} is no file; give a transcripts.tsv, a *.trans.txt or any text of the language"
            )
        words = frozenset(word for text in read_texts(path) for word in normalise(text).split())
        if not words:
            raise UserError(f"--vocabulary {path} holds no word; give a file of text in the language")
        return cls(words, str(path))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the words."""
        return hashlib.sha256("\n".join(sorted(self.words)).encode()).hexdigest()[:16]

    def outside(self, words: list[str]) -> list[str]:
        """Those of the normalised words that are none of the language."""
        return [word for word in words if word not in self.words]
