from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from contract_examples import check_result, kept_rows
from contract_rows import VALIDATION, check, make_annotations
from hypothesis import given
from hypothesis import strategies as st

from pocketaffect.config import load_params
from pocketaffect.data.contract.profile import (
    PROFILES,
    Drift,
    Profile,
    SplitProfile,
    choose_profile,
    compare_profiles,
    profile_of,
    read_profile,
    write_profile,
)
from pocketaffect.data.sample.annotations import SPLITS as SAMPLE_SPLITS
from pocketaffect.data.sample.annotations import plan_labels, sample_annotation
from pocketaffect.data.sample.draws import Draws
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import CLASS_MEAN_VA, EXPRESSIONS


def kept(seed: int = 0, rows: int = 200) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    affect = generator.uniform(-1, 1, (rows, 2)).astype(np.float32)
    affect[::7] = np.nan
    return pd.DataFrame(
        {
            "split": pd.Categorical(np.where(np.arange(rows) < rows * 0.7, "train", "validation")),
            "expression": generator.integers(-1, 8, rows).astype(np.int8),
            "valence": affect[:, 0],
            "arousal": affect[:, 1],
        }
    )


def split(counts: tuple[int, ...] = (1,) * 8, **more) -> SplitProfile:
    return SplitProfile(sum(counts), dict(zip(EXPRESSIONS, counts, strict=True)), **more)


def test_a_profile_has_what_pandas_counts():
    table = kept()
    profile = profile_of(table)
    for name, rows in table.groupby("split", observed=True):
        found = profile.splits[name]
        assert found.rows == len(rows)
        assert list(found.expression.values()) == [int((rows["expression"] == code).sum()) for code in range(8)]
        labelled = rows[rows["expression"] >= 0]["expression"]
        assert found.shares["fear"] == pytest.approx((labelled == 4).mean())
        assert found.mean["valence"] == pytest.approx(rows["valence"].mean(), abs=1e-6)
        by_class = rows.groupby("expression")["arousal"].mean()
        for code, label in enumerate(EXPRESSIONS):
            assert found.class_mean[label]["arousal"] == pytest.approx(by_class[code], abs=1e-6)


def test_a_profile_survives_its_file_and_equal_figures_are_equal_bytes(tmp_path):
    profile = profile_of(kept(), source="a test")
    write_profile(tmp_path / "a.json", profile)
    write_profile(tmp_path / "b.json", profile_of(kept(), source="a test"))
    assert read_profile(tmp_path / "a.json") == profile
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_mean_of_a_hair_below_zero_is_written_as_zero(tmp_path):
    write_profile(tmp_path / "zero.json", profile_of(kept().assign(valence=np.float32(-1e-9))))
    assert re.search(r"-0\.0\b", (tmp_path / "zero.json").read_text()) is None


def test_no_label_at_all_gives_a_profile_without_figures(tmp_path):
    table = kept().assign(expression=np.int8(-1), valence=np.float32(np.nan), arousal=np.float32(np.nan))
    profile = profile_of(table)
    write_profile(tmp_path / "empty.json", profile)
    assert read_profile(tmp_path / "empty.json") == profile
    assert profile.splits["train"].shares == profile.splits["train"].mean == {}
    assert compare_profiles(profile, profile_of(kept()), max_drift=0) == ()


def test_the_data_a_profile_was_made_of_has_not_drifted(tmp_path):
    write_profile(tmp_path / "own.json", profile_of(kept()))
    findings = compare_profiles(read_profile(tmp_path / "own.json"), profile_of(kept()), max_drift=0)
    assert len(findings) == 2 * (8 + 2 + 16)
    assert {finding.difference for finding in findings} == {0.0}
    assert not any(finding.warned for finding in findings)


def test_a_share_and_a_mean_that_moved_further_than_allowed_are_warned_of():
    stored = Profile({"train": split((30, 70) + (0,) * 6, mean={"valence": 0.1, "arousal": 0.0})})
    found = Profile({"train": split((35, 65) + (0,) * 6, mean={"valence": 0.16, "arousal": 0.05})})
    warned = [str(finding) for finding in compare_profiles(stored, found, max_drift=0.05) if finding.warned]
    assert warned == ["train mean valence: 0.16, +0.06 from the profile's 0.10"]
    warned = [str(finding) for finding in compare_profiles(stored, found, max_drift=0.049) if finding.warned]
    assert warned == [
        "train share of neutral: 35.0%, +5.0 points from the profile's 30.0%",
        "train share of happiness: 65.0%, -5.0 points from the profile's 70.0%",
        "train mean valence: 0.16, +0.06 from the profile's 0.10",
        "train mean arousal: 0.05, +0.05 from the profile's 0.00",
    ]


def test_classes_in_another_order_are_seen_even_where_all_shares_are_equal():
    stored = read_profile(PROFILES / "affectnet.json")
    means = {
        name: dict(zip(("valence", "arousal"), CLASS_MEAN_VA[7 - n], strict=True)) for n, name in enumerate(EXPRESSIONS)
    }
    found = Profile({"validation": split((500,) * 8, class_mean=means)})
    warned = [finding.what for finding in compare_profiles(stored, found, max_drift=0.05) if finding.warned]
    assert len(warned) == 14  # two of the sixteen figures change places with one that is near
    assert "validation mean valence of happiness" in warned


def test_a_few_figures_that_drifted_are_named_and_many_are_one_sentence():
    drift = tuple(Drift(f"train mean valence of {name}", 0.0, 0.1, 0.1, True) for name in EXPRESSIONS)
    few, many = check_result(kept_rows(), drift=drift), check_result(kept_rows(), drift=(drift[0], *drift))
    assert few.describe().count("\n  drift: train mean valence of ") == 8
    assert many.describe().count("drift: ") == 1
    assert "9 of 9 figures are further from the profile than validate.max_drift" in many.describe()


@pytest.mark.slow
def test_drift_never_stops_a_check_and_is_in_its_result():
    rows = [{"expression": 1.0, "valence": 0.7, "arousal": 0.1}] * 3
    annotations = make_annotations(*rows, *(row | VALIDATION for row in rows))
    result = check(annotations, profile=choose_profile("auto", is_sample=False))
    (line,) = [line for line in result.describe().splitlines() if "drift" in line]
    assert "15 of 22 figures are further from the profile" in line
    assert "(validation share of happiness: 100.0%, +87.5 points" in line
    finding = next(finding for finding in result.drift if finding.what == "validation share of happiness")
    assert (finding.stored, finding.found, finding.difference, finding.warned) == (0.125, 1.0, 0.875, True)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["drift"][0]["what"] == "train share of neutral"


def test_the_shipped_affectnet_profile_has_the_official_figures():
    profile = choose_profile("auto", is_sample=False)
    assert profile is not None
    train, validation = profile.splits["train"], profile.splits["validation"]
    assert sum(train.expression.values()) == 287_651  # Hewitt & Gunes 2018
    assert list(train.expression.values()) == [74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750]
    assert set(validation.expression.values()) == {500}
    assert (train.mean, validation.mean) == ({"valence": 0.19, "arousal": 0.09}, {"valence": -0.16, "arousal": 0.30})
    # The classes' means are those of the eight, the split's are over class 8 too: they agree roughly.
    mean = np.mean([list(mean.values()) for mean in validation.class_mean.values()], axis=0)
    np.testing.assert_allclose(mean, list(validation.mean.values()), atol=0.06)


def test_the_shipped_sample_profile_is_what_the_sample_is_drawn_from():
    """Its labels come from the generator, without drawing a picture."""
    params = load_params(Path(__file__).parents[2] / "params.yaml").sample
    profile = choose_profile("auto", is_sample=True)
    assert profile is not None
    counts = {"train": params.train_images, "validation": params.validation_images}
    for number, (split_name, listed) in enumerate(zip(counts, SAMPLE_SPLITS, strict=True)):
        labels = plan_labels(listed, counts[split_name], params.seed)
        rows = [sample_annotation(Draws(params.seed, number, row), label) for row, label in enumerate(labels)]
        table = pd.DataFrame(
            [(row.label, *row.valence_arousal) for row in rows], columns=["label", "valence", "arousal"]
        )
        has_va = table["valence"] != -2
        table = table[(table["label"] != 10) & ((table["label"] < 8) | has_va)]
        found = profile.splits[split_name]
        assert found.rows == len(table)
        assert list(found.expression.values()) == [int((table["label"] == code).sum()) for code in range(8)]
        affect = table[has_va.loc[table.index]]
        for name in ("valence", "arousal"):
            assert found.mean[name] == pytest.approx(affect[name].mean(), abs=1e-4)  # the list has four decimals
            assert found.class_mean["disgust"][name] == pytest.approx(
                affect[affect["label"] == 5][name].mean(), abs=1e-4
            )


def test_the_shipped_files_are_as_they_would_be_written(tmp_path):
    files = sorted(PROFILES.glob("*.json"))
    assert [file.stem for file in files] == ["affectnet", "sample"]
    for file in files:
        write_profile(tmp_path / file.name, read_profile(file))
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_the_setting_chooses_the_profile(tmp_path):
    assert choose_profile("none", is_sample=True) is None
    assert choose_profile("auto", is_sample=True) == read_profile(PROFILES / "sample.json")
    own = profile_of(kept(3))
    write_profile(tmp_path / "own.json", own)
    assert choose_profile(str(tmp_path / "own.json"), is_sample=True) == own


ZEROS = json.dumps(dict.fromkeys(EXPRESSIONS, 0))
BAD_FILES = {
    "no JSON": ("not readable as JSON", "{"),
    "no text": ("not readable as JSON", b"\xff\xfe"),
    "deep": ("not", "[" * 100_000),
    "a list": ("not a profile, the file: Input should be an object\n  found:   [1]", "[1]"),
    "nothing": ("not a profile, splits: Field required", "{}"),
    "no split": ("not a profile, splits: Dictionary should have at least 1 item", '{"splits": {}}'),
    "another split": ("'test' is none of train, validation", '{"splits": {"test": {"rows": 0, "expression": ZEROS}}}'),
    "another key": (
        "not a profile, split: Unexpected keyword",
        '{"splits": {"train": {"rows": 0, "expression": ZEROS}}, "split": 1}',
    ),
    "no rows": ("splits.train.rows: Field required", '{"splits": {"train": {}}}'),
    "a part": ("no count of happiness", '{"splits": {"train": {"rows": 3, "expression": {"neutral": 3}}}}'),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_profile_is_refused_with_the_part_and_what_to_do(tmp_path, name):
    message, content = BAD_FILES[name]
    file = tmp_path / "profile.json"
    file.write_bytes(content if isinstance(content, bytes) else content.replace("ZEROS", ZEROS).encode())
    with pytest.raises(PocketAffectError) as caught:
        choose_profile(str(file), is_sample=False)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "`pocketaffect data profile FILE`" in str(caught.value)


@pytest.mark.parametrize("value", [1.5, -1.01, "0", None, True, [0], float("nan"), float("inf")])
def test_a_mean_that_is_no_mean_is_refused(tmp_path, value):
    content = asdict(profile_of(kept()))
    content["splits"]["train"]["class_mean"]["fear"]["arousal"] = value
    (tmp_path / "profile.json").write_text(json.dumps(content))
    with pytest.raises(PocketAffectError, match=r"train.class_mean.fear.arousal: Input should be "):
        read_profile(tmp_path / "profile.json")


@pytest.mark.parametrize("value", [-1, 1.0, "3", None, True])
def test_a_count_that_is_no_count_is_refused(tmp_path, value):
    content = asdict(profile_of(kept()))
    content["splits"]["validation"]["expression"]["anger"] = value
    (tmp_path / "profile.json").write_text(json.dumps(content))
    with pytest.raises(PocketAffectError, match=r"validation.expression.anger: "):
        read_profile(tmp_path / "profile.json")


def test_fewer_rows_than_expressions_are_refused(tmp_path):
    content = asdict(profile_of(kept()))
    content["splits"]["train"]["rows"] = 3
    (tmp_path / "profile.json").write_text(json.dumps(content))
    with pytest.raises(PocketAffectError, match=r"train: .*rows: 3, fewer than the \d+ of its expressions"):
        read_profile(tmp_path / "profile.json")


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    with pytest.raises(
        PocketAffectError,
        match=r"no such profile \(params.yaml: validate.profile\)\n.*\n  allowed: auto, none",
    ):
        choose_profile(str(tmp_path / "none.json"), is_sample=False)
    with pytest.raises(PocketAffectError, match="not readable"):
        choose_profile(str(tmp_path), is_sample=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["splits", "train", "rows", "expression", "mean", *EXPRESSIONS[:2]]), inner)
    ),
    max_leaves=12,
)


@given(content=JSON)
def test_whatever_json_says_it_is_a_profile_or_refused(tmp_path_factory, content):
    file = Path(tmp_path_factory.getbasetemp()) / "any.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    try:
        profile = read_profile(file)
    except PocketAffectError:
        return
    assert isinstance(profile, Profile)
