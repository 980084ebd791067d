from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from pocketaffect.data.contract import duplicates
from pocketaffect.data.contract.duplicates import MAX_DISTANCE, find_near_duplicates, group_duplicates


def to_hashes(bits: np.ndarray) -> np.ndarray:
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)


def compare_all(bits: np.ndarray, max_distance: int) -> dict[tuple[int, int], int]:
    """The independent reference: scipy's Hamming distance between every two rows."""
    ones = bits.sum(axis=1)
    usable = (ones > max_distance) & (ones < 256 - max_distance)
    distances = np.rint(cdist(bits, bits, "hamming") * 256).astype(int)
    near = (distances <= max_distance) & usable[:, None] & usable[None, :]
    return {(int(i), int(j)): int(distances[i, j]) for i, j in np.argwhere(np.triu(near, 1))}


def found_by(bits: np.ndarray, max_distance: int, **options) -> dict[tuple[int, int], int]:
    pairs, distances = find_near_duplicates(to_hashes(bits), max_distance=max_distance, **options)
    assert pairs.dtype == distances.dtype == np.int64
    found = {(int(i), int(j)): int(apart) for (i, j), apart in zip(pairs, distances, strict=True)}
    assert len(found) == len(pairs)  # each once
    assert list(found) == sorted(found)
    assert all(i < j for i, j in found)
    return found


def clustered(generator: np.random.Generator, rows: int, centres: int, flips: int) -> np.ndarray:
    """Bits around a few centres, some rows equal, a few all alike or nearly flat."""
    base = generator.random((centres, 256)) < generator.uniform(0.2, 0.8)
    bits = base[generator.integers(0, centres, rows)]
    for row in bits:
        row[generator.choice(256, generator.integers(0, flips + 1), replace=False)] ^= True
    bits[generator.integers(0, rows, rows // 10)] = False
    bits[generator.integers(0, rows, rows // 10)] = np.arange(256) < generator.integers(0, 20)
    return bits


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(0, 90),
    centres=st.integers(1, 12),
    flips=st.integers(0, 12),
    max_distance=st.integers(0, 12),
    small_group=st.sampled_from([8, 256]),
    key_bits=st.sampled_from([4, 8, 32]),
    sampled=st.sampled_from([2, 128]),
)
def test_pairs_are_those_of_comparing_all_with_all(
    seed, rows, centres, flips, max_distance, small_group, key_bits, sampled
):
    bits = clustered(np.random.default_rng(seed), rows, centres, flips)
    expected = compare_all(bits, max_distance)
    with pytest.MonkeyPatch.context() as patch:  # what a million rows need, on a few
        patch.setattr(duplicates, "SMALL_GROUP", small_group)
        patch.setattr(duplicates, "MAX_KEY_BITS", key_bits)
        patch.setattr(duplicates, "SAMPLED_PAIRS", sampled)
        found = found_by(bits, max_distance)
    first_of = np.unique(to_hashes(bits), axis=0, return_index=True, return_inverse=True)
    representative = first_of[1][first_of[2].ravel()]
    assert found.items() <= expected.items()
    # Pairs left out are those of rows that both have a representative; its own pairs stand for them.
    for i, j in expected.keys() - found.keys():
        assert representative[i] != i or representative[j] != j
        stand_in = tuple(sorted((int(representative[i]), j)))
        assert stand_in[0] == stand_in[1] or stand_in in found or tuple(sorted((i, int(representative[j])))) in found


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), max_distance=st.integers(0, 12))
def test_each_row_near_a_preferred_row_is_in_a_pair_with_one(seed, max_distance):
    generator = np.random.default_rng(seed)
    bits = clustered(generator, 80, 6, 6)
    preferred = generator.random(80) < 0.3
    found = found_by(bits, max_distance, preferred=preferred)

    def touched(pairs):
        return {i for pair in pairs for i, other in (pair, pair[::-1]) if preferred[other] and not preferred[i]}

    assert touched(found) == touched(compare_all(bits, max_distance))


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), max_distance=st.integers(0, 12))
def test_groups_are_the_connected_parts_of_all_pairs(seed, max_distance):
    bits = clustered(np.random.default_rng(seed), 80, 10, 5)
    expected = compare_all(bits, max_distance)
    links = np.zeros((80, 80))
    for i, j in expected:
        links[i, j] = 1
    _, labels = connected_components(links, directed=False)
    pairs, _ = find_near_duplicates(to_hashes(bits), max_distance=max_distance)
    groups = group_duplicates(80, pairs)
    in_pair = np.isin(np.arange(80), [row for pair in expected for row in pair])
    np.testing.assert_array_equal(groups >= 0, in_pair)
    same = (groups[:, None] == groups[None, :])[in_pair][:, in_pair]
    np.testing.assert_array_equal(same, (labels[:, None] == labels[None, :])[in_pair][:, in_pair])
    numbers = groups[in_pair]
    first_seen = list(dict.fromkeys(numbers.tolist()))
    assert first_seen == list(range(len(first_seen)))


def test_ten_thousand_equal_pictures_make_no_fifty_million_pairs():
    bits = np.random.default_rng(1).random((3, 256)) < 0.5
    bits[1] = bits[0]
    bits[1, 7] ^= True
    rows = bits[[0] * 10_000 + [1] * 10_000 + [2]]
    found = found_by(rows, 4)
    assert len(found) == 9_999 + 9_999 + 19_999
    groups = group_duplicates(len(rows), np.array(list(found)))
    assert (groups[:-1] == 0).all()
    assert groups[-1] == -1


def test_pictures_of_one_colour_and_ramps_are_never_near_anything():
    bits = np.zeros((40, 256), dtype=bool)
    bits[20:] = True
    bits[5, 3] = bits[6, 9] = True
    assert found_by(bits, 4) == {}
    assert found_by(bits, 0) == {(i, j): 0 for i in (5, 6) for j in (5, 6) if i < j and (bits[i] == bits[j]).all()}


@pytest.mark.parametrize("rows", [0, 1])
def test_no_row_and_one_row_have_no_pairs(rows):
    assert found_by(np.ones((rows, 256), dtype=bool) * (np.arange(256) % 2 == 0), 4) == {}
    np.testing.assert_array_equal(group_duplicates(rows, np.empty((0, 2), dtype=np.int64)), [-1] * rows)


@pytest.mark.parametrize("max_distance", [-1, MAX_DISTANCE + 1])
def test_a_distance_out_of_range_is_an_error(max_distance):
    with pytest.raises(ValueError, match="max_distance"):
        find_near_duplicates(np.zeros((2, 4), dtype=np.uint64), max_distance=max_distance)


def test_planted_pairs_are_found_among_thirty_thousand_alike(monkeypatch):
    generator = np.random.default_rng(2)
    # As in faces, most bits agree with an average face's: parts of the hash are shared by many rows.
    bits = (np.arange(256) % 3 == 0) ^ (generator.random((30_000, 256)) < 0.12)
    for number in range(200):
        bits[15_000 + number] = bits[number]
        bits[15_000 + number, generator.choice(256, 6, replace=False)] ^= True
    compared = []
    plain = duplicates._count_ones
    monkeypatch.setattr(duplicates, "_count_ones", lambda hashes: compared.append(hashes.size // 4) or plain(hashes))
    found = found_by(bits, 6)
    assert {(number, 15_000 + number) for number in range(200)} <= found.keys()
    assert sum(compared) < 30_000 * 30_000 / 2 / 20


@pytest.mark.slow
def test_a_hundred_thousand_hashes_take_seconds():
    generator = np.random.default_rng(3)
    bits = generator.random((100_000, 256)) < generator.random((1, 256))
    bits[50_000:50_500] = bits[:500]
    bits[50_000:50_500, :7] ^= True
    assert found_by(bits, 10).keys() >= {(number, 50_000 + number) for number in range(500)}
