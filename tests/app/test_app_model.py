import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from app_parts import SIZE, make_twin

from pocketaffect import paths
from pocketaffect.app.server.model import find_model
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.predict import models
from pocketaffect.shipped.network import CARD, find_shipped, seal

Write = Callable[..., Path]


def passed(content: bytes) -> dict[str, object]:
    return {"passed": True, "forms": {"twin": {"sha256": hashlib.sha256(content).hexdigest()}}}


def test_a_verified_file_is_described_by_its_own_metadata(write_model: Write, twin: bytes) -> None:
    model = find_model(str(write_model(twin, passed(twin) | {"executed_by": "an interpreter"})))
    assert (model.metadata.input_size, model.metadata.crop_margin, model.facts()["labels"]) == (
        SIZE,
        0.1,
        [*EXPRESSIONS],
    )
    assert model.digest == hashlib.sha256(twin).hexdigest()
    assert model.verified == "an interpreter"
    assert model.facts()["files"] == [f"/model/{model.digest[:16]}/0.onnx"]


@pytest.mark.parametrize(
    "verification",
    [None, {"passed": False}, {"passed": "yes"}, {}, [], "{", {"passed": None}],
    ids=["none", "failed", "no boolean", "empty", "a list", "broken", "null"],
)
def test_a_model_that_did_not_pass_its_verification_is_not_served(
    write_model: Write, twin: bytes, verification: object
) -> None:
    with pytest.raises(PocketAffectError, match="not served"):
        find_model(str(write_model(twin, verification)))


def test_the_verification_of_another_file_is_none(write_model: Write, twin: bytes) -> None:
    with pytest.raises(PocketAffectError, match="of another file"):
        find_model(str(write_model(twin, passed(twin + b" "))))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": "happy,sad"}, "labels"),
        ({"valence_arousal_order": "arousal,valence"}, "arousal,valence"),
        ({"input_color_order": "BGR"}, "RGB"),
        ({"input_size": "4096"}, "input_size"),
        ({"input_size": "large"}, "input_size"),
        ({"crop_margin": "-1"}, "crop_margin"),
        ({"crop_margin": "nan"}, "crop_margin"),
        ({"unsure_below": "1.5"}, "unsure_below"),
    ],
)
def test_a_model_whose_metadata_do_not_fit_the_page_is_refused(
    write_model: Write, change: dict[str, str], said: str
) -> None:
    with pytest.raises(PocketAffectError, match=said):
        find_model(str(write_model(changed := make_twin(**change), passed(changed))))


def test_a_file_that_is_no_model_is_refused(write_model: Write) -> None:
    with pytest.raises(PocketAffectError, match="not readable as ONNX"):
        find_model(str(write_model(b"\xff\xff no model", passed(b"\xff\xff no model"))))
    with pytest.raises(PocketAffectError, match="no such file"):
        find_model("nowhere.onnx")


@pytest.mark.parametrize("shipped", [False, True])
@pytest.mark.parametrize("trained_on", ["photographs", "drawings"])
def test_without_a_registry_the_last_export_is_served_or_the_shipped_network_before_one_of_drawings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_on: str, shipped: bool
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    twin, other = make_twin(trained_on=trained_on), make_twin(precision="int8")
    for folder, content in ((tmp_path / paths.EXPORT, twin), (tmp_path / "shipped", other)):
        folder.mkdir(parents=True)
        (folder / paths.TWIN.name).write_bytes(content)
        (folder / paths.VERIFICATION.name).write_text(json.dumps(passed(content)))
        (folder / paths.PACKAGE.name).mkdir()
        (folder / CARD).write_text("a card")
    (tmp_path / paths.EXPORT / paths.PACKAGE.name).rmdir()
    monkeypatch.setattr(models, "find_shipped", partial(find_shipped, tmp_path / "shipped"))
    if shipped:
        seal(tmp_path / "shipped")
    served = find_model(None, tmp_path)
    assert served.content == (other if shipped and trained_on == "drawings" else twin)
    assert served.facts()["trained_on"] == (None if served.content == other else trained_on)
    with pytest.raises(PocketAffectError, match="no registry here"):
        find_model("champion", tmp_path)
    assert not (tmp_path / "mlruns").exists()
