from __future__ import annotations

from contract_rows import (
    IMAGES,
    VALIDATION,
    broken,
    check,
    make_annotations,
    make_probes,
    near,
    only,
    sound,
)


def test_a_training_face_that_validation_holds_leaves_and_the_nearest_is_named():
    annotations = make_annotations(*sound(4), *sound(3, **VALIDATION))
    probes = make_probes(7, face_hash={0: near(1), 1: near(0), 4: near(15), 5: near(7)})
    result = check(annotations, probes)
    assert result.dropped[["line", "rule", "value"]].to_numpy().tolist() == [
        [2, "near_duplicate_of_validation", f"{IMAGES}/1/5.jpg, 2 bits apart"],
        [3, "near_duplicate_of_validation", f"{IMAGES}/1/5.jpg, 3 bits apart"],
    ]
    assert result.kept["line"].to_list() == [4, 5, 2, 3, 4]
    # The two training rows are near each other as well, but both have left.
    pairs = result.duplicates[["path_a", "split_a", "path_b", "split_b", "distance", "dropped"]].to_numpy().tolist()
    path = [f"{IMAGES}/1/{number}.jpg" for number in range(7)]
    assert pairs == [
        [path[4], "validation", path[0], "train", 3, True],
        [path[4], "validation", path[1], "train", 4, True],
        [path[5], "validation", path[0], "train", 2, True],
        [path[5], "validation", path[1], "train", 3, True],
        [path[4], "validation", path[5], "validation", 1, False],
    ]
    assert result.kept["duplicate_group"].to_list() == [-1, -1, 0, 0, -1]


def test_near_duplicates_in_a_split_are_kept_and_marked_with_their_group():
    probes = make_probes(7, face_hash={0: near(0), 2: near(1), 5: near(0), 1: ~near(0), 6: ~near(3)})
    result = check(make_annotations(*sound(7), *sound(0)), probes)
    assert result.kept["duplicate_group"].to_list() == [0, 1, 0, -1, -1, 0, 1]
    marked = [name == "near_duplicate_in_split" for name in result.kept["warnings"]]
    assert marked == [True, True, True, False, False, True, True]
    assert not result.duplicates["dropped"].any()
    assert broken(result) == {"near_duplicate_in_split": 5}


def test_near_duplicates_are_not_looked_for_when_switched_off():
    probes = make_probes(4, face_hash=dict.fromkeys(range(4), near(0)))
    result = check(make_annotations(*sound(2), *sound(2, **VALIDATION)), probes, near_duplicate_distance=-1)
    assert len(result.kept) == 4
    assert len(result.duplicates) == 0
    checked = {count.name: count.checked for count in result.counts}
    assert checked["near_duplicate_of_validation"] == checked["near_duplicate_in_split"] == 0
    assert checked["identity_in_validation"] == 0  # no row has an identity


def test_the_distance_decides_who_is_near():
    annotations = make_annotations(*sound(2), *sound(1, **VALIDATION))
    probes = make_probes(3, face_hash={0: near(0b111), 1: near(0b1111), 2: near(0)})
    result = check(annotations, probes, near_duplicate_distance=3)
    assert result.dropped["line"].to_list() == [2]


def test_training_rows_of_a_person_whom_validation_holds_leave():
    annotations = make_annotations(
        {"identity": "ada"},
        {"identity": "bob"},
        {"identity": ""},
        {"identity": "ada"} | VALIDATION,
        {"identity": ""} | VALIDATION,
        {"identity": "bob", "valence": 4.0} | VALIDATION,
        has_identity=True,
    )
    result = check(annotations)
    found = only(result.dropped)
    assert (found["line"], found["rule"], found["value"]) == (2, "identity_in_validation", "identity ada")
    assert result.kept["identity"].to_list() == ["bob", "", "ada", ""]
    assert {count.name: count.checked for count in result.counts}["identity_in_validation"] == 5


def test_a_pair_is_marked_even_when_a_third_of_its_kind_left_for_its_identity():
    same = dict.fromkeys(range(3), near(0))
    annotations = make_annotations({"identity": "ada"}, *sound(2), {"identity": "ada"} | VALIDATION, has_identity=True)
    result = check(annotations, make_probes(4, face_hash=same))
    assert result.kept["duplicate_group"].to_list() == [0, 0, -1]
