"""`make shipped` from data to a sealed folder, with a tiny network and the drawn sample in place of FER2013."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketaffect import AffectReader, paths
from pocketaffect.config import SampleParams, load_params
from pocketaffect.data.sample.generate import generate_sample
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_file, read_yaml, write_json
from pocketaffect.shipped import make
from pocketaffect.shipped.network import CARD, DIGESTS, find_shipped

ROOT = Path(__file__).parents[2]


def test_the_recipe_holds_settings_that_the_pipeline_takes(tmp_path):
    sections = read_yaml(make.RECIPE)
    write_json(tmp_path / "params.yaml", read_yaml(ROOT / "params.yaml") | sections)
    loaded = load_params(tmp_path / "params.yaml").model_dump(by_alias=True)
    assert {name: loaded[name] for name in sections} == sections
    assert sections["export"]["budget_bytes"] <= 500_000


def test_a_recipe_without_all_sections_and_a_folder_that_is_not_there_are_refused(tmp_path):
    write_json(tmp_path / "recipe.yaml", {"model": {}})
    with pytest.raises(PocketAffectError, match="no validate"):
        make.make_network(tmp_path, recipe=tmp_path / "recipe.yaml", root=ROOT)
    with pytest.raises(PocketAffectError, match="no such folder"):
        make.make_network(tmp_path / "nowhere", root=ROOT)


@pytest.mark.slow
def test_it_makes_a_folder_to_ship_goes_on_where_it_was_ended_and_compares_the_weights(tmp_path, photograph):
    generate_sample(tmp_path / "faces", SampleParams(seed=1, train_images=240, validation_images=96), workers=1)
    quick = {
        "validate": {"min_validation_per_class": 1},
        "preprocess": {"image_size": 32},
        "model": {"width": 0.1},
        "train": {"epochs": 1},
        "export": {
            "min_agreement": 0,
            "max_accuracy_drop": 1,
            "max_rmse_rise": 1,
            "max_mean_probability_difference": 1,
        },
    }
    recipe = read_yaml(make.RECIPE)
    write_json(tmp_path / "recipe.yaml", {name: part | quick.get(name, {}) for name, part in recipe.items()})
    how = {"recipe": tmp_path / "recipe.yaml", "root": ROOT, "work": tmp_path / "work"}
    made = make.make_network(tmp_path / "faces", **how)
    assert find_shipped(made) == made
    reader = AffectReader(made / paths.TWIN.name)
    assert (reader.model.trained_on, reader.model.size) == ("photographs", 32)
    assert len(reader.read(photograph)) == 1
    card = (made / CARD).read_text()
    for said in ("The pictures' licence is not stated", make.SOURCE, "## How well", "Emotion recognition at work"):
        assert said in card
    kept = made.parent / paths.MODEL / "model.safetensors"
    before = hash_file(kept), kept.stat().st_mtime_ns
    assert make.make_network(tmp_path / "faces", **how) == made
    assert (hash_file(kept), kept.stat().st_mtime_ns) == before
    assert "agree" in make.compare_weights(made, made)
    digests = json.loads((made / DIGESTS).read_text())
    write_json(tmp_path / DIGESTS, digests | {make.WEIGHTS: "0" * 64})
    assert make.compare_weights(made, tmp_path).startswith("other weights")
    assert digests[make.WEIGHTS] in make.compare_weights(made, None)
