"""What each part of a bundle was kept from in its training: the splits that its provenance holds.

Parts that were trained on the same corpora share one entry: {"parts": ["codec", "k-means"], "splits": [...]}, and those
whose checkpoints do not tell one with null. A run that took its first values from another one has an entry for that one
too, because what it heard stays in the weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from audiolm_jax.files.plain_json import from_plain
from audiolm_jax.tokens.split import Split

SPLITS = "splits"


def splits_of_run(part: str, meta: Mapping[str, Any]) -> dict[str, Sequence[Any] | None]:
    """For `with_splits`: the splits of a run by the meta of its checkpoint, and of the runs that it started from."""
    found = {part: meta.get(SPLITS)}
    while (meta := meta.get("origin")) is not None:
        part = f"{part}'s origin"
        found[part] = meta.get(SPLITS)
    return found


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
    parts = set(splits_of)
    known = [(part, entry["splits"]) for entry in provenance.get(SPLITS, ()) for part in entry["parts"]]
    known = [(part, splits) for part, splits in known if part.split("'s origin")[0] not in parts]
    for part, splits in (*known, *((part, splits and list(splits)) for part, splits in splits_of.items())):
        same = next((entry for entry in entries if entry["splits"] == splits), None)
        if same is None:
            entries.append({"parts": [part], "splits": splits})
        else:
            same["parts"].append(part)
    others = {name: value for name, value in provenance.items() if name != SPLITS}
    return others | ({SPLITS: entries} if entries else {})


def splits_by_part(provenance: Mapping[str, Any], where: str) -> dict[str, tuple[Split, ...] | None]:
    """The splits of every part that is named, one for each folder that it was trained on; None where none are known.

    Args:
        provenance: of a bundle.
        where: names the bundle in errors.

    Raises:
        UserError: an entry is damaged.
    """
    entries = from_plain(tuple[dict, ...], provenance.get(SPLITS, []), f"{where}: provenance.{SPLITS}")
    found = {}
    for entry in entries:
        splits = from_plain(tuple[Split, ...] | None, entry.get("splits"), f"{where}: provenance.{SPLITS}")
        for part in from_plain(tuple[str, ...], entry.get("parts"), f"{where}: provenance.{SPLITS}"):
            found[part] = splits
    return found
