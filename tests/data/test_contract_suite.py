"""The files that users of Great Expectations find beside the quarantine table."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from contract_rows import VALIDATION, check, make_annotations, make_probes, near, sound

from pocketaffect import paths
from pocketaffect.data.contract.check import write_result
from pocketaffect.data.contract.rules import RULES
from pocketaffect.data.release.rows import ROW_COLUMNS
from pocketaffect.labels import SOFT_COLUMNS

FAULTS = (
    {"listed_path": "../x.jpg"},
    {"expression": 42.0},
    {"expression": float("nan"), "unread": "expression 'happy'"},
    {"expression": 10.0},
    {"expression": 10.0, "valence": 9.0},
    {"expression": 9.0, "valence": -2.0, "arousal": -2.0},
    {"expression": 9.0, "valence": -2.0, "arousal": -2.0, **dict.fromkeys(SOFT_COLUMNS, 0.125)},
    {"valence": 1.5},
    {"valence": float("nan"), "unread": "valence 'x'"},
    {"expression": 1.0, "valence": -0.5},
    {"expression": 1.0, "valence": 0.0, "arousal": 0.1},
    {"landmark_count": 5},
    {"face_x": 900.0},
    {"listed_path": "1/0.jpg"},
    {"listed_path": "1/1.jpg", **VALIDATION},
    {"identity": "b"},
    {"identity": "b", **VALIDATION},
)


@pytest.fixture(scope="module")
def result():
    rows = [*sound(16), *FAULTS]
    faces = {5: near(1), 6: near(2)}
    probes = make_probes(len(rows), problem={3: "truncated"}, width={4: 20}, face_hash=faces)
    return check(make_annotations(*rows, has_identity=True), probes)


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("out") / "manifest"
    write_result(result, target)
    return target


def read(folder: Path, place: Path) -> dict:
    return json.loads((folder / place.name).read_text(encoding="utf-8"))


def count(results) -> list[tuple]:
    """What each expectation asks, and how many of how many rows broke it."""
    found = []
    for each in results:
        config = each.expectation_config
        asked = {key: str(value) for key, value in config.kwargs.items() if key != "batch_id"}
        told = each.result
        found.append(
            (config.type, sorted(asked.items()), each.success, told["unexpected_count"], told["element_count"])
        )
    return sorted(found, key=str)


def test_great_expectations_loads_suite_and_result_and_finds_the_same_again_in_the_written_table(folder):
    import great_expectations as gx
    from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResultSchema

    suite = gx.ExpectationSuite(**read(folder, paths.CONTRACT_SUITE))
    told = ExpectationSuiteValidationResultSchema().load(read(folder, paths.CONTRACT_VALIDATION))
    context = gx.get_context(mode="ephemeral")
    assert len(context.suites.add(suite).expectations) == len(told.results) > len(RULES)
    asset = context.data_sources.add_pandas("any").add_dataframe_asset("any")
    table = pd.read_parquet(folder / paths.EVIDENCE_TABLE.name)
    batch = asset.add_batch_definition_whole_dataframe("any").get_batch({"dataframe": table})
    again = batch.validate(suite)
    assert count(again.results) == count(told.results)
    assert again.statistics == told.statistics


def test_the_result_counts_what_the_contract_counts(folder, result):
    broken: dict[str, int] = {}
    for each in read(folder, paths.CONTRACT_VALIDATION)["results"]:
        name = each["expectation_config"]["meta"]["rule"]
        broken[name] = broken.get(name, 0) + each["result"]["unexpected_count"]
    counted = {each.name: each.broken for each in result.counts if each.name in broken}
    assert broken == counted  # no row of this table breaks two expectations of one rule
    assert set(counted) == {rule.name for rule in RULES if rule.expect}
    assert sum(each.broken > 0 for each in result.counts) >= 14


def test_rules_look_at_the_tables_own_columns_unless_they_need_pixels_or_other_rows(folder):
    asked = {each["kwargs"]["column"] for each in read(folder, paths.CONTRACT_SUITE)["expectations"]}
    derived = {"box_overlap", "repeated", "held_by_validation", "identity_in_validation", "validation_twin", "has_twin"}
    images = {"image_problem", "image_width", "image_height"}
    assert asked - set(ROW_COLUMNS) == derived | images


def test_the_document_has_every_column_that_the_rules_look_at(result):
    text = (Path(__file__).parents[2] / "docs" / "data-contract.md").read_text(encoding="utf-8")
    section = text[text.index("## For users of Great Expectations") :]
    assert [name for name in result.evidence if f"`{name}`" not in section] == []


def test_equal_data_gives_equal_files_without_dates_ids_and_versions(folder, result, tmp_path):
    write_result(result, tmp_path / "again")
    for place in (paths.CONTRACT_SUITE, paths.CONTRACT_VALIDATION):
        text = (folder / place.name).read_text(encoding="utf-8")
        assert text == (tmp_path / "again" / place.name).read_text(encoding="utf-8")
        for word in ("great_expectations_version", "batch_id", "run_id", "time", "Infinity", "NaN"):
            assert word not in text
        assert read(folder, place)["meta"] == {}
