from __future__ import annotations

import itertools
import math
import subprocess
import sys

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.byobnet import RepVggBlock
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from network_parts import PHONE, build, faces, predict, without_heavy
from pocketaffect.designs import CATALOGUE, find_design, known_design
from pocketaffect.errors import PocketAffectError
from pocketaffect.export.layers import reparameterize
from pocketaffect.export.size import predict_package_bytes
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.models.network import (
    OWN_BACKBONES,
    NetworkSpec,
    build_backbone,
    count_macs,
    count_parameters,
    load_network,
    save_network,
)
from pocketaffect.models.phone import PHONE_BACKBONES

TIMM_NAMES = {"mobilenetv3_small": "mobilenetv3_small_100", "mobilenetv3_large": "mobilenetv3_large_100"}


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def test_every_design_has_one_builder():
    assert list(CATALOGUE) == [*OWN_BACKBONES, *PHONE_BACKBONES]


def test_the_catalogue_can_be_read_without_torch_and_timm():
    code = "import sys, pocketaffect.designs as c; print(len(c.CATALOGUE), {'torch', 'timm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{len(CATALOGUE)} set()"


@pytest.mark.parametrize("name", without_heavy([name for name in PHONE if name != "repvgg_face"]))
def test_width_one_is_timms_network_layer_for_layer(name):
    arguments = {"distillation": False} if name == "repvit_m0_9" else {}
    theirs = timm.create_model(TIMM_NAMES.get(name, name), num_classes=0, **arguments)
    assert shapes(build_backbone(name, 1.0, 64).model) == shapes(theirs)


def test_the_repvgg_for_faces_is_timms_blocks_behind_one_convolution_and_ends_at_a_sixteenth_of_the_side():
    network = build_backbone("repvgg_face", 1.0, 48)
    blocks = [block for stage in network.model.stages for block in stage]
    assert all(type(block) is RepVggBlock for block in blocks)
    assert [block.conv_kxk.conv.out_channels for block in blocks] == [32, 64, 64, 128, 128, 128]
    assert network.eval().model.forward_features(torch.zeros(1, 3, 48, 48)).shape == (1, 128, 3, 3)
    assert network.feature_dimension == 128


def test_the_repvgg_for_faces_is_small_and_a_plain_chain_once_it_ships():
    shipped = reparameterize(build("repvgg_face", 1.0, 48, "plain"))
    assert predict_package_bytes(NetworkSpec("repvgg_face", 1.0, 48, "prototype"), "int8") < 500_000
    convolutions = [layer for layer in shipped.modules() if isinstance(layer, nn.Conv2d)]
    sides = [24, 12, 6, 6, 3, 3, 3]
    channels = [3, 16, 32, 64, 64, 128, 128, 128]
    macs = sum(side**2 * 9 * a * b for side, a, b in zip(sides, channels, channels[1:], strict=False))
    assert len(convolutions) == len(sides)
    assert count_macs(shipped, 48) == macs + 128 * 10


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("mobilenetv3_small", "mobilenetv3_small_050"),
        ("mobilenetv4_conv_small", "mobilenetv4_conv_small_050"),
    ],
)
def test_half_width_is_timms_but_for_the_narrower_head(name, theirs):
    ours, timms = (shapes(model) for model in (build_backbone(name, 0.5, 64).model, timm.create_model(theirs)))
    differing = {key for key in timms if ours.get(key) != timms[key]}
    assert {key.split(".")[0] for key in differing} <= {"conv_head", "norm_head", "classifier"}
    assert 2 * ours["conv_head.weight"][0] == timms["conv_head.weight"][0]


@pytest.mark.parametrize("name", without_heavy(PHONE))
def test_parameters_and_multiplications_fall_with_width(name):
    networks = [build(name, width, 48) for width in (1.0, 0.4, 0.1)]
    sizes = [(count_parameters(network), count_macs(network, 48)) for network in networks]
    assert all(less[0] < 0.6 * more[0] and less[1] < more[1] for more, less in itertools.pairwise(sizes))


@settings(max_examples=8)
@given(name=st.sampled_from(PHONE[::2]), pair=st.tuples(st.floats(0.05, 0.6), st.floats(0.05, 0.6)))
def test_a_narrower_phone_network_is_never_larger(name, pair):
    small, large = (build_backbone(name, width, 64) for width in sorted(pair))
    assert count_parameters(small) <= count_parameters(large)
    assert small.feature_dimension <= large.feature_dimension


@pytest.mark.slow
@settings(max_examples=6)
@given(name=st.sampled_from(PHONE), sixteens=st.integers(2, 8), width=st.floats(0.05, 0.3), stem=st.booleans())
def test_every_size_gives_predictions_and_gradients(name, sixteens, width, stem):
    size = 16 * sixteens
    network = build(name, width, size, full_resolution_stem=stem).train()
    logits, valence_arousal = network(faces(2, size))
    assert logits.shape == (2, len(EXPRESSIONS))
    assert valence_arousal.shape == (2, 2)
    (logits.square().sum() + valence_arousal.square().sum()).backward()
    assert bool(torch.isfinite(logits).all())
    # None without a gradient, or DistributedDataParallel waits for it forever.
    assert all(weight.grad is not None and bool(torch.isfinite(weight.grad).all()) for weight in network.parameters())


@pytest.mark.parametrize("name", without_heavy(list(CATALOGUE)))
def test_the_feature_dimension_is_that_of_the_features(name):
    backbone = build_backbone(name, 0.1, 32).eval()
    assert backbone(faces(2, 32)).shape == (2, backbone.feature_dimension)


@pytest.mark.parametrize("name", without_heavy(list(CATALOGUE)))
def test_multiplications_are_those_that_torchs_own_counter_finds(name):
    network = build(name, 0.15, 48, "plain", full_resolution_stem=True).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(faces(1, 48))
    assert 2 * count_macs(network, 48) == counter.get_total_flops()


@pytest.mark.parametrize("name", without_heavy(list(CATALOGUE)))
def test_weights_follow_from_torchs_seed_alone(name):
    def draw(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return list(build_backbone(name, 0.1, 32).parameters())

    first, again, other = draw(3), draw(3), draw(4)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("name", ["mobilenetv4_conv_small", "efficientnet_lite0", "mobilenetv3_small"])
def test_the_narrower_head_is_drawn_as_timm_draws_its_own(name):
    def draw(width: float) -> nn.Conv2d:
        torch.manual_seed(0)
        return build_backbone(name, width, 64).model.conv_head

    for width in (0.5, 1.0, 1.5):
        head = draw(width)
        assert float(head.weight.detach().std()) == pytest.approx(math.sqrt(2 / head.out_channels), rel=0.03)


@pytest.mark.parametrize("name", without_heavy(PHONE))
@pytest.mark.parametrize("factor", [0.0, 1.0])
def test_dropout_multiplies_the_designs_own_rate(name, factor):
    backbone = build_backbone(name, 0.5, 32, factor).eval()
    kept = backbone(faces(64, 32))
    for module in (backbone.model, *(layer for layer in backbone.modules() if isinstance(layer, nn.Dropout))):
        module.training = True  # not the normalisations
    torch.manual_seed(0)
    dropped = (backbone(faces(64, 32)) == 0)[kept != 0].double()
    assert float(dropped.mean()) == pytest.approx(find_design(name).dropout * factor, abs=0.02)


@pytest.mark.parametrize("name", without_heavy(list(CATALOGUE)))
def test_a_stem_at_full_resolution_has_the_same_weights_and_four_times_the_multiplications(name):
    plain, full = (build(name, 0.25, 64, full_resolution_stem=stem) for stem in (False, True))
    assert shapes(plain) == shapes(full)
    ratio = count_macs(full, 64) / count_macs(plain, 64)
    strided = find_design(name).stem is not None
    assert 3 < ratio < 4.2 if strided else ratio == 1


@pytest.mark.parametrize("name", without_heavy(PHONE))
def test_a_saved_phone_network_comes_back_as_it_was(name, tmp_path):
    network = build(name, 0.1, 48, full_resolution_stem=True)
    network.train()(faces(4, 48))
    save_network(network, tmp_path)
    loaded = load_network(tmp_path)
    assert loaded.spec == network.spec
    saved = network.state_dict()
    assert all(torch.equal(tensor, saved[key]) for key, tensor in loaded.state_dict().items())
    assert torch.equal(predict(loaded, faces(3, 48))[0], predict(network, faces(3, 48))[0])


def test_weights_of_another_phone_network_are_refused(tmp_path):
    save_network(build("mobilenetv3_small"), tmp_path)
    text = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace("mobilenetv3_small", "efficientnet_lite0"))
    with pytest.raises(PocketAffectError, match="weights are not of"):
        load_network(tmp_path)


def test_a_description_from_before_stems_could_be_chosen_still_loads(tmp_path):
    save_network(build("mobilenet"), tmp_path)
    lines = (tmp_path / "model.json").read_text().splitlines()
    (tmp_path / "model.json").write_text("\n".join(line for line in lines if "full_resolution_stem" not in line))
    assert load_network(tmp_path).spec == build("mobilenet").spec


@pytest.mark.parametrize("name", ["vgg", "repvit_m0_9"])
@pytest.mark.parametrize("width", [0.0, -1.0, 0.04, 4.1, math.inf, math.nan])
def test_an_impossible_width_is_refused_before_anything_is_built(name, width):
    with pytest.raises(PocketAffectError, match=r"params\.yaml: model: .*\n.*width"):
        build(name, width)


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("size", [-1, 0, 16, 31])
def test_an_image_too_small_for_five_halvings_is_refused(name, size):
    with pytest.raises(PocketAffectError, match=rf"preprocess\.image_size is too small for {name}"):
        build(name, 0.1, size)


def test_an_image_too_large_is_refused():
    with pytest.raises(PocketAffectError, match=r"size: .*512"):
        build("mobilenetv3_small", 0.1, 1024)


def test_an_unknown_design_is_refused_with_the_known_ones():
    with pytest.raises(PocketAffectError, match="mobilenetv4_conv_small, efficientnet_lite0"):
        find_design("mobilenet_v4")
    with pytest.raises(ValueError, match="mobileone_s0"):
        known_design("mobileone")


def separable_faces(number: int, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise with a bright square whose place tells the class."""
    expression = torch.arange(number) % len(EXPRESSIONS)
    images = 0.3 * faces(number, size)
    side = size // 4
    for image, code in zip(images, expression.tolist(), strict=True):
        top, left = side * (code // 4) * 2, side * (code % 4)
        image[:, top : top + side, left : left + side] += 0.6
    return images, expression, torch.stack([expression / 4 - 0.9, 0.8 - expression / 5], dim=1)


def steps_to_overfit(name: str, width: float, size: int, most: int, **further) -> int:
    network = build(name, width, size, dropout=0.0, **further).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    images, expression, truth = separable_faces(64, size)
    for step in range(1, most + 1):
        logits, valence_arousal = network(images)
        right = float((logits.argmax(dim=1) == expression).double().mean())
        error = float((valence_arousal - truth).detach().square().mean().sqrt())
        if right == 1 and error < 0.2:
            return step
        loss = nn.functional.cross_entropy(logits, expression)
        (loss + nn.functional.mse_loss(valence_arousal, truth)).backward()
        optimizer.step()
        optimizer.zero_grad()
    raise AssertionError(f"{right:.0%} right, VA off by {error:.2f} after {most} steps")


def test_a_phone_network_learns_sixty_four_images_by_heart():
    assert steps_to_overfit("mobilenetv4_conv_small", 0.15, 48, most=60) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_network_learns_sixty_four_images_by_heart(name):
    # MobileOne's parallel branches take five times as long a step, and narrow ones more steps.
    width, most = (0.1, 250) if name == "mobileone_s0" else (0.2, 100)
    assert steps_to_overfit(name, width, 48, most=most) > 1


@pytest.mark.slow
@pytest.mark.parametrize(("size", "stem"), [(64, False), (48, True)])
def test_networks_learn_larger_images_and_with_a_stem_at_full_resolution(size, stem):
    assert steps_to_overfit("mobilenetv3_small", 0.2, size, most=100, full_resolution_stem=stem) > 1
