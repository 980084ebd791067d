import json
import shutil
import sys

import pytest
from sweep_parts import ROOT, make_params, make_root

sys.path.append(str(ROOT / "tests" / "training"))
from training_parts import write_separable_shards

from pocketaffect import paths
from pocketaffect.export.size import predict_package_bytes
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.models.network import AffectNetwork, NetworkSpec, count_macs
from pocketaffect.registry.store.measured import hash_validation
from pocketaffect.registry.store.runs import DIGEST_TAG, PACKAGE_TAG, VALIDATION_TAG
from pocketaffect.registry.store.store import open_store
from pocketaffect.sweep.references import list_references

METRICS = {"balanced_accuracy": 0.6, "ccc_valence": 0.5, "ccc_arousal": 0.3}


@pytest.fixture
def root(tmp_path, store_template, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = make_root(tmp_path)
    shutil.rmtree(root / paths.SHARDS)
    write_separable_shards(root / paths.SHARDS)
    shutil.copytree(store_template, root / "mlruns")
    return root


def register(root, *, validation: str) -> None:
    """A champion by MLflow's own means, whose package has 12 bytes."""
    client = open_store(root).client()
    folder = root / "model" / "affect.mlpackage"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"x" * 12)
    run = client.create_run("0").info.run_id
    for name, value in make_params().model_dump()["model"].items():
        client.log_param(run, f"model.{name}", str(value))
    client.log_param(run, "preprocess.image_size", "32")
    for name, value in METRICS.items():
        client.log_metric(run, name, value)
    client.create_registered_model("pocketaffect")
    tags = {DIGEST_TAG: package_digest(folder), PACKAGE_TAG: folder.name, VALIDATION_TAG: validation}
    version = client.create_model_version("pocketaffect", str(folder.parent), run, tags=tags).version
    client.set_registered_model_alias("pocketaffect", "champion", version)


def test_the_paper_s_networks_stand_at_what_they_cost_as_the_paper_has_them(root):
    found = list_references(make_params(), root, None)
    assert [one.name for one in found] == ["paper's alexnet", "paper's vgg", "paper's mobilenet"]
    for one in found:
        spec = NetworkSpec(one.spec.architecture, 1.0, 128, "plain")
        assert one.bytes == predict_package_bytes(spec, "fp32")
        assert one.macs == count_macs(AffectNetwork(spec), 128)
        assert one.score is None
    assert list_references(make_params(), root, open_store(root)) == found  # no champion yet


def test_the_champion_has_a_trial_s_score_where_it_was_measured_on_the_same_faces(root):
    register(root, validation=hash_validation(root / paths.SHARDS))
    champion = list_references(make_params(), root, open_store(root))[-1]
    assert champion.name == "champion, version 1"
    assert (champion.bytes, champion.score) == (12, pytest.approx(0.5))  # half of .6, half of the mean of .5 and .3
    model = make_params().model
    assert champion.spec == NetworkSpec(model.architecture, model.width, 32, model.head)


def test_measured_on_other_faces_it_stands_at_what_it_costs(root):
    register(root, validation="other")
    assert list_references(make_params(), root, open_store(root))[-1].score is None


def test_where_trials_are_chosen_on_a_part_of_training_its_score_is_another_s(root):
    register(root, validation=hash_validation(root / paths.SHARDS))
    summary = json.loads((root / paths.SHARDS / "shards.json").read_text())
    summary["images"]["choosing"] = 10
    (root / paths.SHARDS / "shards.json").write_text(json.dumps(summary))
    assert list_references(make_params(), root, open_store(root))[-1].score is None
