"""Finds faces that are the same picture saved twice, by their difference hashes, without comparing all with all."""

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Hashes: TypeAlias = npt.NDArray[np.uint64]
Positions: TypeAlias = npt.NDArray[np.int64]

HASH_BITS: Final = 256
MAX_DISTANCE: Final = 32
"""Largest distance in bits: beyond it, unrelated faces come together, and the search compares nearly all with all."""

MAX_KEY_BITS: Final = 32
"""Bits of a part that are looked at; the rest only matters for groups that are still too large."""

SMALL_GROUP: Final = 256
"""Hashes up to which comparing all with all is faster than dividing."""

SAMPLED_PAIRS: Final = 128

MAX_DIVISIONS: Final = 3
"""Number of times that a group may be divided; each costs max_distance + 1 times as much."""

BATCH: Final = 1 << 18
"""Comparisons at a time."""


def find_near_duplicates(
    hashes: Hashes, *, max_distance: int, preferred: npt.NDArray[np.bool_] | None = None
) -> tuple[Positions, Positions]:
    """Finds every pair of hashes that differ in at most `max_distance` bits.

    Rows of equal hashes are represented by one of them, since ten thousand equal pictures would make fifty million
    pairs: each is paired with its representative, and with the representatives of the near hashes. So whoever has a
    near duplicate has a pair, and pairs connect what belongs together. With `preferred` the validation rows, each
    training row that comes near any of them is in a pair with one.

    Hashes within `max_distance` of all zeros or all ones are left out, and so are never near anything: a flat picture
    has the first, a ramp from dark to light the other, whatever else it shows.

    Args:
        hashes: uint64 [n, 4], as `probe.hash_face` makes them; zeros stand for none.
        max_distance: Bits, 0 to MAX_DISTANCE; 0 finds equal hashes.
        preferred: bool [n], the rows that represent their equals where there are any; the first row otherwise.

    Returns:
        int64 [m, 2], the smaller position first, sorted; and int64 [m], the bits in which the two differ.
    """
    if not 0 <= max_distance <= MAX_DISTANCE:
        raise ValueError(f"max_distance {max_distance} is not within 0..{MAX_DISTANCE}")
    hashes = np.ascontiguousarray(hashes, dtype=np.uint64).reshape(-1, HASH_BITS // 64)
    ones = _count_ones(hashes)
    rows = np.flatnonzero((ones > max_distance) & (ones < HASH_BITS - max_distance))
    if len(rows) < 2:
        return np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64)
    last = np.zeros(len(rows), dtype=np.bool_) if preferred is None else ~np.asarray(preferred, dtype=np.bool_)[rows]
    chosen = hashes[rows]
    order = np.lexsort((last, *chosen.T))  # stable: the first row comes first among equals
    rows, chosen = rows[order], chosen[order]
    starts = np.flatnonzero(np.r_[True, (chosen[1:] != chosen[:-1]).any(axis=1)])
    pairs, distances = _find_close(chosen[starts], max_distance)
    return _expand(rows, starts, pairs, distances)


def group_duplicates(count: int, pairs: Positions) -> Positions:
    """Numbers the groups of rows that `pairs` [m, 2] connect, by their first rows: int64 [count], -1 without a pair."""
    groups = np.full(count, -1, dtype=np.int64)
    members, positions = np.unique(np.asarray(pairs, dtype=np.int64), return_inverse=True)
    if len(members) == 0:
        return groups
    ends = positions.reshape(-1, 2)
    links = coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(len(members),) * 2)
    _, labels = connected_components(links, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    groups[members] = np.argsort(np.argsort(first))[inverse]
    return groups


def _count_ones(hashes: Hashes) -> Positions:
    return np.asarray(np.bitwise_count(hashes).sum(axis=-1, dtype=np.int64))


def _expand(rows: Positions, starts: Positions, pairs: Positions, distances: Positions) -> tuple[Positions, Positions]:
    """Turns pairs of distinct hashes into pairs of rows; the equals of hash i are rows[starts[i] : starts[i + 1]]."""
    sizes = np.diff(np.r_[starts, len(rows)])
    one, other = pairs.T
    equal = np.repeat(np.arange(len(starts)), sizes - 1)
    more = sizes[one] - 1
    near, far = rows[_members(starts[other], sizes[other])], rows[_members(starts[one] + 1, more)]
    left = np.concatenate([rows[starts[equal]], rows[starts[one]].repeat(sizes[other]), far])
    right = np.concatenate([rows[_members(starts + 1, sizes - 1)], near, rows[starts[other]].repeat(more)])
    apart = np.concatenate([np.zeros_like(equal), distances.repeat(sizes[other]), distances.repeat(more)])
    found = np.sort(np.stack([left, right], axis=1), axis=1)
    order = np.lexsort((found[:, 1], found[:, 0]))
    return found[order], apart[order]


def _members(starts: Positions, sizes: Positions) -> Positions:
    """Lists the numbers starts[i], starts[i] + 1, …, sizes[i] of them, for each i."""
    before = np.cumsum(sizes) - sizes
    return np.arange(sizes.sum()) - np.repeat(before - starts, sizes)


def _find_close(hashes: Hashes, max_distance: int) -> tuple[Positions, Positions]:
    """Finds all pairs of distinct hashes within `max_distance`, each once."""
    found = [(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64))]
    if max_distance:
        alone = np.zeros(len(hashes), dtype=np.int64)
        _search(hashes, np.arange(len(hashes)), alone, np.arange(HASH_BITS), max_distance, found)
    pairs, distances = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return pairs, distances


def _search(
    hashes: Hashes,
    rows: Positions,
    groups: Positions,
    bits: Positions,
    max_distance: int,
    found: list[tuple[Positions, Positions]],
    *,
    seen: Sequence[Hashes] = (),
    divisions: int = MAX_DIVISIONS,
) -> None:
    """Adds to `found` the close pairs within each group of `rows`, which agree in all bits but `bits`.

    Hashes that differ in d bits agree in at least one of any d + 1 parts of them, by the pigeonhole principle (Norouzi
    et al., "Fast Exact Search in Hamming Space with Multi-Index Hashing", 2014). Rows that agree in a part are few, or
    really are near each other, and are compared; or they are many, since all faces are alike, and are divided further
    by the bits that are left. Pairs that agree in a part of `seen`, given as masks, have been found there.
    """
    parts = max_distance + 1
    words = np.ascontiguousarray(hashes[rows].T)
    for part in range(parts):
        # Bits far apart: those of neighbours in the picture depend on each other and would make larger groups.
        own = bits[part::parts][:MAX_KEY_BITS]
        keys = (groups.astype(np.uint64) << np.uint64(MAX_KEY_BITS)) | _read_bits(words, own)
        order = np.argsort(keys)
        starts = np.flatnonzero(np.r_[True, np.diff(keys[order]) != 0])
        sizes = np.diff(np.r_[starts, len(rows)])
        crowded = (sizes > SMALL_GROUP) & (divisions > 0)
        crowded[crowded] = ~_are_near(hashes, rows[order], starts[crowded], sizes[crowded], max_distance)
        compared = ~crowded & (sizes > 1)
        members, ends = _members(starts[compared], sizes[compared]), np.cumsum(sizes[compared])
        _compare(hashes, rows[order[members]], np.repeat(ends, sizes[compared]), max_distance, found, seen)
        if crowded.any():
            members = _members(starts[crowded], sizes[crowded])
            numbers = np.repeat(np.arange(crowded.sum()), sizes[crowded])
            left = np.setdiff1d(bits, own)
            within = rows[order[members]]
            _search(hashes, within, numbers, left, max_distance, found, seen=seen, divisions=divisions - 1)
        seen = (*seen, _make_mask(own))


def _make_mask(bits: Positions) -> Hashes:
    mask = np.zeros(HASH_BITS // 64, dtype=np.uint64)
    for bit in bits:
        mask[bit // 64] |= np.uint64(1) << np.uint64(bit % 64)
    return mask


def _are_near(
    hashes: Hashes, rows: Positions, starts: Positions, sizes: Positions, max_distance: int
) -> npt.NDArray[np.bool_]:
    """Tells whether so many pairs are close that comparing all costs little more than writing them down."""
    steps = np.arange(SAMPLED_PAIRS)
    one = starts[:, None] + steps * sizes[:, None] // SAMPLED_PAIRS
    other = starts[:, None] + (steps * sizes[:, None] // SAMPLED_PAIRS + sizes[:, None] // 2 + steps) % sizes[:, None]
    apart = _count_ones(hashes[rows[one]] ^ hashes[rows[other]])
    return np.asarray((apart <= max_distance).mean(axis=1) > 1 / (4 * (max_distance + 1)))


def _read_bits(words: Hashes, bits: Positions) -> Hashes:
    """Reads the bits of each hash as one number; `words` is [4, n]."""
    keys = np.zeros(words.shape[1], dtype=np.uint64)
    for bit in bits:
        keys = (keys << np.uint64(1)) | ((words[bit // 64] >> np.uint64(bit % 64)) & np.uint64(1))
    return keys


def _compare(
    hashes: Hashes,
    rows: Positions,
    ends: Positions,
    max_distance: int,
    found: list[tuple[Positions, Positions]],
    seen: Sequence[Hashes],
) -> None:
    """Compares each of `rows` with those after it, up to `ends`."""
    quarter = hashes[rows, 0]
    first = np.flatnonzero(np.arange(1, len(rows) + 1) < ends)
    step = 1
    while len(first):
        for start in range(0, len(first), BATCH):
            one = first[start : start + BATCH]
            # A quarter of the bits tells most pairs apart, and in order of the group it is read fast.
            one = one[np.bitwise_count(quarter[one] ^ quarter[one + step]) <= max_distance]
            pairs = np.stack([rows[one], rows[one + step]], axis=1)
            difference = hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]
            apart = _count_ones(difference)
            new = apart <= max_distance
            for mask in seen:
                new[new] = (difference[new] & mask).any(axis=1)
            if new.any():
                found.append((pairs[new], apart[new]))
        step += 1
        first = first[first + step < ends[first]]
