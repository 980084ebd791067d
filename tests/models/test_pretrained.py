from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from network_parts import PHONE, build, faces
from pocketaffect.designs import CATALOGUE
from pocketaffect.errors import PocketAffectError
from pocketaffect.export.layers import reparameterize
from pocketaffect.models.network import AffectNetwork
from pocketaffect.models.pretrained import load_pretrained

SMALL = "mobilenetv3_small"
TIMM_NAMES = {"mobilenetv3_small": "mobilenetv3_small_100", "mobilenetv3_large": "mobilenetv3_large_100"}
HUB_NAME = "timm/mobilenetv3_small_100.lamb_in1k"


def classifier_of(name: str) -> torch.nn.Module:
    """timm's network with its thousand classes and weights that are not ours."""
    torch.manual_seed(7)
    return timm.create_model(TIMM_NAMES.get(name, name)).eval()


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    return classifier_of(SMALL)


@pytest.fixture
def file(theirs, tmp_path) -> Path:
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def features_of(network: AffectNetwork, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network.eval().backbone(images)


def expected_features(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.forward_head(model.forward_features(images), pre_logits=True)


WITH_WEIGHTS = [name for name in PHONE if CATALOGUE[name].weights]


@pytest.mark.parametrize("name", [SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in WITH_WEIGHTS[1:])])
def test_a_local_file_gives_timms_features_and_leaves_the_heads_alone(name, tmp_path):
    model = classifier_of(name)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    network = build(name, 1.0, 64)
    heads = {key: tensor.clone() for key, tensor in network.state_dict().items() if not key.startswith("backbone.")}
    weights = load_pretrained(network, tmp_path / "weights.safetensors")
    torch.testing.assert_close(features_of(network, faces(2, 64)), expected_features(model, faces(2, 64)))
    assert all(torch.equal(network.state_dict()[key], tensor) for key, tensor in heads.items())
    assert weights.matched == len(network.backbone.state_dict())
    assert weights.matched + weights.dropped == len(model.state_dict())
    assert weights.dropped >= 2


def test_the_files_name_and_digest_are_recorded_but_not_its_folder(file):
    weights = load_pretrained(build(SMALL, 1.0), file)
    assert weights.source == "weights.safetensors"
    assert weights.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert weights.licence is None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{key}": tensor for key, tensor in state.items()}},
        lambda state: {"state_dict": {key: tensor * 0 for key, tensor in state.items()}, "state_dict_ema": state},
        lambda state: {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")},
    ],
    ids=["plain", "of a training", "distributed", "averaged", "without counters"],
)
def test_a_torch_file_may_be_wrapped_as_training_loops_do(wrap, theirs, tmp_path):
    torch.save(wrap(theirs.state_dict()), tmp_path / "weights.pth")
    network = build(SMALL, 1.0)
    load_pretrained(network, tmp_path / "weights.pth")
    torch.testing.assert_close(features_of(network, faces(2, 48)), expected_features(theirs, faces(2, 48)))


def refused(network: AffectNetwork, source: str | Path, match: str) -> str:
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(PocketAffectError, match=match) as caught:
        load_pretrained(network, source)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    return str(caught.value)


def test_a_narrower_network_has_no_pretrained_weights(file):
    assert "model.width 0.5" in refused(build(SMALL, 0.5), file, "width 1.0 only")


def test_the_papers_networks_have_no_pretrained_weights(file):
    assert "mobilenetv4_conv_small" in refused(build("vgg", 1.0), file, "vgg has no pretrained weights")


def test_weights_of_another_network_are_refused_with_what_differs(tmp_path):
    save_file(timm.create_model("mobilenetv3_small_075").state_dict(), tmp_path / "weights.safetensors")
    text = refused(build(SMALL, 1.0), tmp_path / "weights.safetensors", "not the weights of mobilenetv3_small")
    assert "of another shape (blocks." in text
    save_file({"conv_stem.weight": torch.zeros(16, 3, 3, 3), "x": torch.zeros(1)}, tmp_path / "weights.safetensors")
    text = refused(build(SMALL, 1.0), tmp_path / "weights.safetensors", r"1 of \d+ tensors match")
    assert "1 unknown (x)" in text
    assert "missing (bn1.weight)" in text


def test_weights_that_are_not_finite_are_refused(theirs, tmp_path):
    state = {key: tensor.clone() for key, tensor in theirs.state_dict().items()}
    state["conv_head.bias"][3] = torch.inf
    save_file(state, tmp_path / "weights.safetensors")
    refused(build(SMALL, 1.0), tmp_path / "weights.safetensors", r"not finite \(conv_head\.bias\)")


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("write", [torch.save, lambda payload, path: path.write_bytes(pickle.dumps(payload))])
def test_a_file_that_holds_code_is_refused_and_not_executed(name, write, tmp_path):
    write({"conv_stem.weight": Payload(tmp_path / "executed")}, tmp_path / name)
    refused(build(SMALL, 1.0), tmp_path / name, "not readable as weights")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x05", b"PK\x03\x04garbage", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_file_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    refused(build(SMALL, 1.0), tmp_path / name, "not readable as weights")


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}, {"state_dict": 5}, torch.zeros(2)], ids=str)
def test_a_torch_file_of_something_else_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    refused(build(SMALL, 1.0), tmp_path / "weights.pth", "not readable as weights")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(share, file):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    refused(build(SMALL, 1.0), file, "not readable as weights")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    refused(build(SMALL, 1.0), tmp_path / "none.pth", "no such file")
    refused(build(SMALL, 1.0), tmp_path, "no such file")


def test_the_exported_form_takes_no_weights(file):
    with pytest.raises(ValueError, match="before the network is reparameterised"):
        load_pretrained(reparameterize(build(SMALL, 1.0)), file)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Hugging Face's cache, empty, and no way to the hub."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_without_a_connection_the_hub_gives_an_error_that_says_what_to_do(cache):
    text = refused(build(SMALL, 1.0), "hub", "cannot be had from the Hugging Face hub")
    assert f"https://huggingface.co/{HUB_NAME}/resolve/main/model.safetensors" in text
    assert not cache.exists() or not list(cache.rglob("*.safetensors"))


def test_what_an_earlier_download_left_is_used_and_its_revision_recorded(cache, theirs):
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / f"models--{HUB_NAME.replace('/', '--')}"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    save_file(theirs.state_dict(), snapshot / "model.safetensors")
    network = build(SMALL, 1.0)
    weights = load_pretrained(network, "hub")
    assert weights.source == f"{HUB_NAME}@{revision}"
    assert weights.licence == "apache-2.0"
    torch.testing.assert_close(features_of(network, faces(2, 48)), expected_features(theirs, faces(2, 48)))
