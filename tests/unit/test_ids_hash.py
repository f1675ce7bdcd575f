"""The hash over all ids of a backup, and the sample of them: the same however the ids come."""

import hashlib
import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reanimate.backups.hashing import IdsHash, canonical
from reanimate.backups.reader import _chosen

Ids = list[int | str]

IDS: Ids = [*range(3000), *(str(uuid.UUID(int=number)) for number in range(3000))]


def paged(ids: Ids, size: int) -> list[Ids]:
    return [ids[at : at + size] for at in range(0, len(ids), size)]


@given(st.lists(st.one_of(st.integers(0, 2**64 - 1), st.uuids().map(str)), max_size=50))
def test_ids_hash__is_the_sum_of_the_hashes(ids: Ids) -> None:
    """Added at once or one by one, in any order; anybody can compute it again."""
    expected = sum(int.from_bytes(hashlib.sha256(canonical(one).encode()).digest(), "big") for one in ids)
    at_once, singly = IdsHash(), IdsHash()
    at_once.add_all(ids)
    for one in reversed(ids):
        singly.add(one)
    assert at_once.hexdigest() == singly.hexdigest() == f"{expected % 2**256:064x}"
    assert at_once.count == len(ids)


@pytest.mark.parametrize("other", [IDS[:-1], [*IDS, 3000], [*IDS[:-1], IDS[0]], [*map(str, IDS)]])
def test_ids_hash__tells_sets_apart(other: Ids) -> None:
    """One id less, one more, one twice, numbers as text."""
    ours, others = IdsHash(), IdsHash()
    ours.add_all(IDS)
    others.add_all(other)
    assert ours.hexdigest() != others.hexdigest()


def test_chosen__does_not_depend_on_pages() -> None:
    shuffled = random.Random(1).sample(IDS, len(IDS))
    first = _chosen(paged(IDS, 4096), IdsHash(), "salt", 20)
    assert sorted(map(str, _chosen(paged(shuffled, 7), IdsHash(), "salt", 20))) == sorted(map(str, first))
    assert len(set(map(str, first))) == 20


def test_chosen__is_another_sample_for_another_salt() -> None:
    samples = [set(map(str, _chosen([IDS], IdsHash(), f"salt {number}", 20))) for number in range(200)]
    assert sum(len(samples[0] & sample) for sample in samples[1:]) < 60
    assert len(set.union(*samples)) > 2500  # of 6000, drawn 4000 times: 2920 expected


def test_chosen__of_few_takes_all() -> None:
    assert sorted(map(str, _chosen([[1, 2], [], ["x"]], IdsHash(), "s", 20))) == ["1", "2", "x"]
