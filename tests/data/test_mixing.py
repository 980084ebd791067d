from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter

from pocketaffect.config import AugmentParams
from pocketaffect.data.shards.augment import (
    Faces,
    change_focus,
    change_tint,
    change_tones,
    cut_out,
    draw_partners,
    mix_faces,
    recompress,
)
from pocketaffect.data.shards.batches import FaceBatches
from pocketaffect.data.shards.split import Split

NONE = np.full(8, np.nan, np.float32)
STILL = dict.fromkeys(("rotation_degrees", "shift", "flip", "brightness", "contrast", "cutout", "mixup"), 0.0)


def split(rows: int = 12) -> Split:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (rows, 16, 16, 3), np.uint8)
    return Split(
        shards=(images,),
        starts=np.array([0]),
        paths=tuple(map(str, range(rows))),
        expression=np.arange(rows, dtype=np.int64) % 8,
        valence_arousal=generator.uniform(-1, 1, (rows, 2)).astype(np.float32),
    )


def faces(expression: list[int], *, va: list[float], soft: dict[int, list[float]] | None = None) -> Faces:
    rows = len(expression)
    votes = np.tile(NONE, (rows, 1))
    for row, shares in (soft or {}).items():
        votes[row] = shares
    pixels = np.random.default_rng(rows).random((rows, 4, 4, 3), np.float32)
    return Faces(pixels, np.array(expression), np.array([[one, one] for one in va], np.float32), votes)


def test_images_and_labels_are_blended_by_the_same_share():
    own = faces([3, 1], va=[0.5, -1.0])
    other = faces([5, 1], va=[-0.5, 1.0], soft={1: [0.25] * 4 + [0.0] * 4})
    mixed = mix_faces(own, other, np.array([0.75, 0.5], np.float32))
    np.testing.assert_allclose(mixed.pixels[0], 0.75 * own.pixels[0] + 0.25 * other.pixels[0], rtol=1e-6)
    assert mixed.soft[0].tolist() == [0, 0, 0, 0.75, 0, 0.25, 0, 0]
    assert mixed.soft[1].tolist() == [0.125, 0.625, 0.125, 0.125, 0, 0, 0, 0]
    assert mixed.valence_arousal.tolist() == [[0.25, 0.25], [0.0, 0.0]]
    assert mixed.expression.tolist() == [3, 1]


def test_a_face_keeps_to_itself_where_its_partner_lacks_one_of_its_labels():
    own = faces([3, 1, -1, -1], va=[0.5, np.nan, 0.5, 0.25])
    other = faces([-1, 2, 4, 4], va=[0.5, np.nan, 1.0, np.nan])
    mixed = mix_faces(own, other, np.full(4, 0.5, np.float32))
    for row in (0, 3):
        np.testing.assert_array_equal(mixed.pixels[row], own.pixels[row])
        np.testing.assert_array_equal(mixed.valence_arousal[row], own.valence_arousal[row])
        assert np.isnan(mixed.soft[row]).all()
    assert mixed.soft[1].tolist() == [0, 0.5, 0.5, 0, 0, 0, 0, 0]
    assert np.isnan(mixed.valence_arousal[1]).all()
    assert np.isnan(mixed.soft[2]).all()  # without a class of its own it gets none
    assert mixed.valence_arousal[2].tolist() == [0.75, 0.75]


def test_partners_come_from_the_whole_split_and_the_own_share_is_the_larger():
    rows, shares = draw_partners(np.random.default_rng(0), 20_000, 0.4)
    assert (rows.min(), rows.max()) == (0, 19_999)
    assert shares.min() >= 0.5
    reference = np.random.default_rng(1).beta(0.4, 0.4, 20_000)
    assert shares.mean() == pytest.approx(np.maximum(reference, 1 - reference).mean(), abs=0.005)


LOOKS = (
    {"mixup": 0.5},
    {"cutout": 0.5},
    {"brightness": 0.3},
    {"contrast": 0.5},
    {"zoom": 0.2},
    {"aspect": 0.2},
    {"tint": 0.3},
    {"jpeg": 1.0},
)


@pytest.mark.parametrize("change", [*LOOKS, {"blur": 0.9, "sharpen": 0.5}])
def test_a_face_looks_the_same_whatever_batch_it_falls_into_and_other_in_the_next_epoch(change):
    augment = AugmentParams(**STILL | change)
    batches = FaceBatches(split(), augment=augment, seed=7, epoch=3)
    together = batches[np.array([4, 9, 0])]
    assert together.rows.tolist() == [4, 9, 0]
    for place, row in enumerate([4, 9, 0]):
        alone = batches[np.array([row])]
        np.testing.assert_array_equal(together.images[place], alone.images[0])
        if "mixup" in change:
            np.testing.assert_array_equal(together.soft[place], alone.soft[0])
    plain = FaceBatches(split())[np.arange(12)].images.numpy()
    seen = [
        FaceBatches(split(), augment=augment, seed=7, epoch=epoch)[np.arange(12)].images.numpy() for epoch in (3, 4)
    ]
    assert (np.abs(seen[0] - plain).max(axis=(1, 2, 3)) > 0.01).sum() > 8
    assert not np.array_equal(seen[0], seen[1])
    assert (seen[0].min() >= 0, seen[0].max() <= 1) == (True, True)


def test_soft_labels_are_left_out_on_request():
    soft = np.full((12, 8), 0.125, np.float32)
    voted = Split(**{**split().__dict__, "soft": soft})
    assert not FaceBatches(voted)[np.arange(3)].soft.isnan().any()
    assert FaceBatches(voted, soft_labels=False)[np.arange(3)].soft is None


@settings(max_examples=60)
@given(x=st.floats(0, 0.999), y=st.floats(0, 0.999), side=st.floats(0.05, 1))
def test_a_square_about_the_drawn_centre_is_painted_in_the_mean_colour(x, y, side):
    image = np.random.default_rng(0).random((1, 20, 20, 3), np.float32)
    changed = image.copy()
    cut_out(changed, np.array([[x, y]]), side)
    length = round(side * 20)
    place = np.arange(20)
    across, down = (
        (place >= int(draw * 20) - length // 2) & (place < int(draw * 20) - length // 2 + length) for draw in (x, y)
    )
    hidden = down[:, None] & across
    np.testing.assert_array_equal(changed[0][~hidden], image[0][~hidden])
    np.testing.assert_allclose(changed[0][hidden], np.tile(image[0].mean(axis=(0, 1)), (hidden.sum(), 1)), rtol=1e-5)


def test_focus_is_opencv_s_gaussian_at_one_end_and_an_unsharp_mask_at_the_other():
    face = np.random.default_rng(0).integers(60, 190, (32, 32, 3), np.uint8)
    augment = AugmentParams(**STILL | {"blur": 1.4, "sharpen": 0.8})
    blurred, sharper, same = face.copy(), face.copy(), face.copy()
    change_focus(blurred, 0.75, augment)
    change_focus(sharper, 0.25, augment)
    change_focus(same, 0.5, augment)
    expected = np.stack([gaussian_filter(face[..., c].astype(float), 0.7, mode="nearest") for c in range(3)], axis=2)
    assert np.abs(blurred - expected).max() <= 4
    kernel = np.array([0.25, 0.5, 0.25])
    soft = convolve(face.astype(float), (kernel[:, None] * kernel)[..., None], mode="nearest")
    assert np.abs(sharper - np.clip(face + 0.4 * (face - soft), 0, 255)).max() <= 1
    np.testing.assert_array_equal(same, face)


def test_a_tint_multiplies_the_channels_and_is_cut_at_white():
    face = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    changed = face.copy()
    change_tint(changed, np.array([0.0, 0.5, 0.95]), 0.3)
    assert np.abs(changed - np.clip(face * [0.7, 1.0, 1.27], 0, 255)).max() <= 1


def test_a_compressed_face_is_what_pillow_reads_of_the_same_quality():
    face = np.random.default_rng(0).integers(0, 256, (2, 2, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    changed, kept = face.copy(), face.copy()
    recompress(changed, 0.0, 0.5)
    recompress(kept, 0.5, 0.5)
    memory = BytesIO()
    Image.fromarray(face).save(memory, "JPEG", quality=20)
    memory.seek(0)
    assert np.abs(changed - np.asarray(Image.open(memory), float)).mean() <= 0.5  # 2.8 with red and blue exchanged
    assert np.abs(changed - face.astype(float)).mean() > 0.1
    np.testing.assert_array_equal(kept, face)


def test_tones_move_by_their_limits_about_the_mean():
    image = np.random.default_rng(0).uniform(0.4, 0.6, (2, 8, 8, 3)).astype(np.float32)
    changed = image.copy()
    augment = AugmentParams(**STILL | {"brightness": 0.1, "contrast": 0.5})
    change_tones(changed, np.array([[0.0, 0.5], [0.75, 1.0]]), augment)
    np.testing.assert_allclose(changed[0], image[0] - 0.1, atol=1e-6)
    np.testing.assert_allclose(changed[1], image[1].mean() + 1.5 * (image[1] - image[1].mean()) + 0.05, atol=1e-6)
