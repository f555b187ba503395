"""Plans: the same for everybody, small in memory, and other digests for other inputs."""

import dataclasses
from collections.abc import Sequence

import pytest
from etils import epath

from audiolm_jax.errors import UserError
from audiolm_jax.tokens.extraction.shard_plan import default_files_per_shard, plan_shards, remove_plans
from audiolm_jax.tokens.records import SourceFile
from tests.tokens.tiny_tokenizers import load


class Lazy(Sequence):
    """Inputs that are made when they are asked for, and counted; every third is held out."""

    def __init__(self, count: int):
        self.made = 0
        self._count = count

    def __len__(self):
        return self._count

    def __getitem__(self, place):
        if not 0 <= place < self._count:
            raise IndexError(place)
        self.made += 1
        split = "train" if place % 3 else "heldout"
        return SourceFile("/x/a.flac", "a.flac", f"a_{place:04d}", "s", split, ((place, place + 1),))


@pytest.fixture(scope="module")
def sizes():
    return load().sizes()


def test_a_plan_divides_each_split_in_order_and_goes_through_the_inputs_once(tmp_path, sizes):
    files = Lazy(20)
    plans = plan_shards(epath.Path(tmp_path), files, sizes, 5)
    assert files.made == 20
    assert [plan.name for plan in plans] == [
        *(f"train-{n:05d}-of-00003.array_record" for n in range(3)),
        *(f"heldout-{n:05d}-of-00002.array_record" for n in range(2)),
    ]
    assert [plan.num_inputs for plan in plans] == [5, 5, 3, 5, 2]
    keys = [[file.key for file in plan.inputs()] for plan in plans]
    assert keys[0] == ["a_0001", "a_0002", "a_0004", "a_0005", "a_0007"] and keys[4] == ["a_0015", "a_0018"]
    assert plans[0].inputs()[0] == files[1]
    assert plan_shards(epath.Path(tmp_path), Lazy(20), sizes, 5) == plans
    assert len(list(tmp_path.iterdir())) == 1
    remove_plans(epath.Path(tmp_path))
    with pytest.raises(UserError, match="do all workers see the output folder"):
        plans[0].inputs()


def test_digests_tell_other_inputs_and_other_tokenizers(tmp_path, sizes):
    file = SourceFile(str(tmp_path / "a.wav"), "a.wav", "a", "s", "train")
    (tmp_path / "a.wav").write_bytes(b"1")
    (tmp_path / "out").mkdir()

    def digest(changed=file, made_by=sizes):
        return plan_shards(epath.Path(tmp_path) / "out", [changed], made_by, 5)[0].digest

    first = digest()
    assert digest() == first
    changed = [dataclasses.replace(file, speaker="t"), dataclasses.replace(file, key="b")]
    changed.append(dataclasses.replace(file, ranges=((0, 5),)))
    others = {digest(other) for other in changed} | {digest(made_by=dataclasses.replace(sizes, semantic_vocab=7))}
    (tmp_path / "a.wav").write_bytes(b"12")
    others.add(digest())
    (tmp_path / "a.wav").unlink()
    others.add(digest())
    assert len(others) == 6 and first not in others


def test_large_corpora_get_larger_shards():
    assert [default_files_per_shard(count) for count in (1, 475, 64 * 4096, 3_600_000)] == [64, 64, 64, 879]
