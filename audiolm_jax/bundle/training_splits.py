"""What each part of a bundle was kept from in its training: the splits that its provenance holds.

Parts that were trained on the same corpora share one entry: {"parts": ["codec", "k-means"], "splits": [...]}.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from audiolm_jax.plain_json import from_plain
from audiolm_jax.tokens.split import Split

SPLITS = "splits"


def with_splits(
    provenance: Mapping[str, Any], splits_of: Mapping[str, Sequence[Any] | None]
) -> dict[str, Any]:
    """Provenance with the splits of parts, in place of those it may have of the same parts.

    Args:
        provenance: of a bundle.
        splits_of: by part, a `Split` in plain values for each folder that it was trained on, as checkpoints hold them;
            None where the checkpoint holds none.
    """
    entries: list[dict[str, Any]] = []
    known = [(part, entry["splits"]) for entry in provenance.get(SPLITS, ()) for part in entry["parts"]]
    known = [(part, splits) for part, splits in known if part not in splits_of]
    for part, splits in (*known, *((part, list(splits)) for part, splits in splits_of.items() if splits)):
        same = next((entry for entry in entries if entry["splits"] == splits), None)
        if same is None:
            entries.append({"parts": [part], "splits": splits})
        else:
            same["parts"].append(part)
    others = {name: value for name, value in provenance.items() if name != SPLITS}
    return others | ({SPLITS: entries} if entries else {})


def splits_by_part(provenance: Mapping[str, Any], where: str) -> dict[str, tuple[Split, ...]]:
    """The splits of every part that has them, one for each folder that it was trained on.

    Args:
        provenance: of a bundle.
        where: names the bundle in errors.

    Raises:
        UserError: an entry is damaged.
    """
    entries = from_plain(tuple[dict, ...], provenance.get(SPLITS, []), f"{where}: provenance.{SPLITS}")
    found = {}
    for entry in entries:
        splits = from_plain(tuple[Split, ...], entry.get("splits"), f"{where}: provenance.{SPLITS}")
        for part in from_plain(tuple[str, ...], entry.get("parts"), f"{where}: provenance.{SPLITS}"):
            found[part] = splits
    return found
