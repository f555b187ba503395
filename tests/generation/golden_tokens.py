"""What the toy system draws in every mode, for several prompts and settings.

The tokens are kept in tests/golden/generation.json, one digit each, so that a change of how rows are planned, batched,
padded or drawn shows what it does to them. After a change that is meant:

    python -m tests.generation.golden_tokens
"""

import json
from pathlib import Path

from audiolm_jax.generation.pipeline import Request
from tests.generation.toy_system import RATE, sound, system

FILE = Path(__file__).parents[1] / "golden" / "generation.json"
# Samples of the prompt, seconds that are new, samples that are drawn: one window and many, of every stage.
PROMPTS = ((RATE, 0.5, 2), (9_000, 1.6, 1), (40_000, 2.5, 3))
MODES = ("continuation", "acoustic", "fine", "unconditional")
# Temperature, top-k and top-p, of the three stages where they are three.
WAYS = {
    "as the paper draws": (None, 0, 1.0),
    "the likeliest": (0.0, 0, 1.0),
    "hot and filtered": ((1.0, 1.5, 0.0), (4, 0, 3), (0.9, 0.6, 1.0)),
}
# Name, mode, way to draw, and whether the stages learned on collapsed repeats.
CASES = [
    *((f"{mode}, {'collapsed' if collapsed else 'full rate'}", mode, "as the paper draws", collapsed)
      for mode in MODES for collapsed in (True, False)),
    *((f"continuation, {way}", "continuation", way, True) for way in list(WAYS)[1:]),
]  # fmt: skip


def requests(mode, way):
    """One request for each of PROMPTS."""
    temperature, top_k, top_p = WAYS[way]
    return [
        Request(
            None if mode == "unconditional" else sound(length, seed),
            mode=mode,
            prompt_seconds=0.7,
            seconds=None if mode == "fine" else seconds,
            num_samples=num_samples,
            seed=seed,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
        )
        for seed, (length, seconds, num_samples) in enumerate(PROMPTS)
    ]


def in_digits(made):
    """A request's samples as text: the semantic tokens, and each level of the acoustic ones."""
    streams = [[one.semantic_tokens, *one.acoustic_tokens.T] for one in made]
    return [["".join(map(str, tokens)) for tokens in sample] for sample in streams]


def each_alone(mode, way, collapsed):
    """The tokens of each request, drawn by itself."""
    return [in_digits(system(collapsed).generations(request)) for request in requests(mode, way)]


def all_together(mode, way, collapsed):
    """The same, drawn in calls of four rows."""
    return [in_digits(made) for made in system(collapsed).generations_together(requests(mode, way), fixed_rows=4)]


def main() -> None:
    golden = {name: each_alone(*case) for name, *case in CASES}
    FILE.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
