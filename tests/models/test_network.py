from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from network_parts import without_heavy
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import CLASS_MEAN_VA
from pocketaffect.models.network import (
    LUMA,
    SPEC_FILE,
    WEIGHTS_FILE,
    AffectNetwork,
    NetworkSpec,
    count_parameters,
    load_network,
    save_network,
)
from pocketaffect.models.paper import BACKBONES

SPEC = NetworkSpec("mobilenet", 0.1, 32, "prototype")


def build(spec: NetworkSpec = SPEC, seed: int = 0, **statistics) -> AffectNetwork:
    torch.manual_seed(seed)
    return AffectNetwork(spec, **statistics)


def predict(network: AffectNetwork, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        return network.eval()(images)


def faces(number: int = 3, size: int = 32) -> torch.Tensor:
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("architecture", BACKBONES)
def test_the_prototype_head_starts_as_the_class_lookup(architecture):
    logits, valence_arousal = predict(build(NetworkSpec(architecture, 0.1, 32, "prototype")), faces())
    expected = torch.softmax(logits.double(), dim=1).numpy() @ torch.tensor(CLASS_MEAN_VA).double().numpy()
    assert valence_arousal.numpy() == pytest.approx(expected, abs=1e-6)


def test_a_certain_prototype_head_gives_the_prototype_of_the_class():
    prototypes = [(code / 8, -code / 8) for code in range(8)]
    network = build(prototypes=prototypes)
    torch.nn.init.zeros_(network.expression.weight)
    with torch.no_grad():
        network.expression.bias.copy_(torch.tensor([0.0, 0, 0, 100, 0, 0, 0, 0]))
    assert predict(network, faces(1))[1][0].tolist() == pytest.approx(prototypes[3], abs=1e-6)


@pytest.mark.parametrize("architecture", without_heavy(["vgg", "mobilenet", "mobilenetv4_conv_small", "mobileone_s0"]))
def test_a_network_that_reads_luma_keeps_its_answers_to_grey_faces_and_forgets_colour(architecture):
    network = build(NetworkSpec(architecture, 0.25, 32, "prototype", colour="grey")).double()
    colour = faces(8).double()
    luma = (colour * colour.new_tensor(LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True).expand_as(colour)
    with torch.no_grad():
        for _ in range(30):
            network.train()(luma)  # so that normalisation lets something through
    before, (coloured, _) = predict(network, luma), predict(network, colour)
    network.read_luma()
    after = predict(network, luma)
    torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-6)
    assert (coloured - before[0]).abs().max() > 0.01
    torch.testing.assert_close(predict(network, colour), after, atol=1e-6, rtol=1e-6)


def test_the_plain_head_is_the_linear_layer_alone():
    network = build(NetworkSpec("mobilenet", 0.1, 32, "plain"))
    features = network.eval().backbone((faces() - network.mean) / network.deviation)
    assert torch.allclose(predict(network, faces())[1], network.valence_arousal(features).clamp(-1, 1))


def test_the_head_learns_although_it_starts_at_zero():
    network = build().train()
    network(faces())[1].sum().backward()
    assert float(network.valence_arousal.weight.grad.abs().sum()) > 0
    assert float(network.expression.weight.grad.abs().sum()) > 0


@settings(max_examples=20)
@given(scale=st.floats(1, 1e4), seed=st.integers(0, 100), head=st.sampled_from(["prototype", "plain"]))
def test_valence_and_arousal_stay_within_their_range(scale, seed, head):
    network = build(NetworkSpec("alexnet", 0.05, 32, head), seed)
    with torch.no_grad():
        network.valence_arousal.weight.normal_().mul_(scale)
    valence_arousal = predict(network, faces())[1]
    assert bool(((valence_arousal >= -1) & (valence_arousal <= 1)).all())


def test_pixels_are_standardised_inside_the_network():
    statistics = {"mean": (0.1, 0.2, 0.3), "deviation": (0.4, 0.5, 0.6)}
    standardised = (faces() - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
    inside = predict(build(**statistics), faces())[0]
    outside = predict(build(mean=(0, 0, 0), deviation=(1, 1, 1)), standardised)[0]
    assert torch.allclose(inside, outside, atol=1e-5)


def test_a_prediction_does_not_depend_on_the_other_images_of_the_batch():
    network = build()
    together = predict(network, faces(4))[0]
    alone = torch.cat([predict(network, image[None])[0] for image in faces(4)])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("size", [0, 16, 31])
def test_a_size_too_small_for_five_poolings_is_refused(size):
    with pytest.raises(PocketAffectError, match=r"preprocess\.image_size is too small"):
        build(NetworkSpec("vgg", 0.1, size, "plain"))


def test_an_unknown_architecture_is_refused_with_the_known_ones():
    with pytest.raises(PocketAffectError, match="alexnet, vgg, mobilenet"):
        build(NetworkSpec("resnet", 1.0, 64, "plain"))


def test_parameters_are_what_a_file_stores():
    network = build()
    stored = sum(tensor.numel() for tensor in network.parameters()) + sum(
        tensor.numel() for name, tensor in network.named_buffers() if "num_batches" not in name
    )
    assert count_parameters(network) == stored


@pytest.mark.parametrize("architecture", BACKBONES)
@pytest.mark.parametrize("head", ["prototype", "plain"])
def test_a_saved_network_comes_back_as_it_was(architecture, head, tmp_path):
    spec = NetworkSpec(architecture, 0.1, 48, head)
    network = build(spec, mean=(0.2, 0.3, 0.4), prototypes=[(0.5, 0.25)] * 8)
    network.train()(faces(4, 48))  # moves the running statistics
    save_network(network, tmp_path)
    loaded = load_network(tmp_path)
    assert loaded.spec == spec
    assert not loaded.training
    assert loaded.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_the_same_weights_give_the_same_bytes_in_any_memory_format(tmp_path):
    plain, channels_last = build(), build().to(memory_format=torch.channels_last)
    for folder, network in (("a", plain), ("b", channels_last)):
        save_network(network, tmp_path / folder)
    save_network(load_network(tmp_path / "a"), tmp_path / "c")
    for name in (WEIGHTS_FILE, SPEC_FILE):
        assert len({(tmp_path / folder / name).read_bytes() for folder in "abc"}) == 1


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_network(build(), folder)
    return folder


@pytest.fixture
def saved(saved_once, tmp_path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(saved_once, tmp_path, dirs_exist_ok=True))


def edit_spec(folder: Path, **changes: object) -> None:
    content = json.loads((folder / SPEC_FILE).read_text())
    (folder / SPEC_FILE).write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize("name", [WEIGHTS_FILE, SPEC_FILE])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(PocketAffectError, match="no trained model"):
        load_network(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"architecture": "vgg"}', b"\xff\xfe", b"[1, 2]"])
def test_a_damaged_description_is_refused(saved, content):
    (saved / SPEC_FILE).write_bytes(content)
    with pytest.raises(PocketAffectError, match=f"{saved}: damaged model"):
        load_network(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"width": "0.1"},
        {"width": None},
        {"width": float("nan")},
        {"width": -1},
        {"width": 1e9},
        {"size": "32"},
        {"size": 32.5},
        {"size": 1},
        {"size": 10**9},
        {"head": "other"},
        {"head": ["plain"]},
        {"architecture": "resnet"},
        {"architecture": ["vgg"]},
    ],
    ids=str,
)
def test_a_description_of_an_impossible_network_is_refused(saved, changes):
    edit_spec(saved, **changes)
    with pytest.raises(PocketAffectError, match="damaged model"):
        load_network(saved)


@settings(max_examples=25)
@given(share=st.floats(0, 0.99))
def test_truncated_weights_are_refused(saved_once, share):
    weights = (saved_once / WEIGHTS_FILE).read_bytes()
    (saved_once / WEIGHTS_FILE).write_bytes(weights[: int(len(weights) * share)])
    try:
        with pytest.raises(PocketAffectError, match="damaged model"):
            load_network(saved_once)
    finally:
        (saved_once / WEIGHTS_FILE).write_bytes(weights)


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("write", [torch.save, lambda payload, file: file.write_bytes(pickle.dumps(payload))])
@pytest.mark.parametrize("name", [WEIGHTS_FILE, SPEC_FILE])
def test_a_pickle_in_place_of_a_file_is_refused_and_not_executed(saved, write, name):
    write(Payload(saved / "executed"), saved / name)
    with pytest.raises(PocketAffectError, match="damaged model"):
        load_network(saved)
    assert not (saved / "executed").exists()


def test_weights_of_another_network_are_refused_with_the_first_difference(saved):
    edit_spec(saved, width=0.5)
    with pytest.raises(PocketAffectError, match=r"weights are not of .*width=0\.5") as caught:
        load_network(saved)
    assert "size mismatch for backbone.stem.0.weight" in str(caught.value)


def test_weights_of_another_architecture_are_refused(saved):
    edit_spec(saved, architecture="vgg")
    with pytest.raises(PocketAffectError, match="weights are not of"):
        load_network(saved)


def test_weights_that_are_not_finite_are_refused(saved):
    network = build()
    with torch.no_grad():
        network.expression.bias[2] = torch.nan
    save_network(network, saved)
    with pytest.raises(PocketAffectError, match=r"damaged model\n.*expression\.bias"):
        load_network(saved)
