from __future__ import annotations

import io
import logging
import subprocess
import sys

import numpy as np
import pytest
from affectnet_copies import picture
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from shard_parts import Copy, contents

from pocketaffect.data.faces.crop import Eyes, FaceBox, decode_face
from pocketaffect.data.shards import memory
from pocketaffect.data.shards.memory import (
    LEAST_IMAGE_BYTES,
    MEGABYTE,
    STREAM_BYTES,
    WORKER_BYTES,
    LargestImage,
    estimate_file_bytes,
    estimate_picture_bytes,
    find_sides,
    plan_memory,
    read_memory_held,
)
from pocketaffect.errors import PocketAffectError


@pytest.fixture(autouse=True, scope="module")
def steady_memory():
    """What this process holds changes from test to test, and in the middle of one; a plan must not here."""
    held = read_memory_held()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "read_memory_held", lambda: held)
        yield


SMALL = LargestImage("small.jpg", 100, 100, 10**5)


def megabytes_for(workers: int, image: int) -> int:
    """`preprocess.memory_mb` that leaves each of `workers` workers about `image` MB, beside what this process holds."""
    return (memory.read_memory_held() + STREAM_BYTES + workers * (WORKER_BYTES + image * MEGABYTE)) // MEGABYTE + 8


@settings(max_examples=100, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(
    memory_mb=st.integers(500, 100_000),
    workers=st.integers(1, 256),
    shard_images=st.integers(1, 10**5),
    image=st.integers(0, 2**28),
)
def test_what_a_plan_gives_out_stays_within_memory_and_suffices(memory_mb, workers, shard_images, image):
    largest = LargestImage("a.jpg", 10, 10, image)
    before = memory.read_memory_held()
    try:
        plan = plan_memory(memory_mb, workers=workers, shard_images=shard_images, largest=largest)
    except PocketAffectError:
        assume(False)
    assert 1 <= plan.workers <= workers
    assert plan.image_bytes >= max(image, LEAST_IMAGE_BYTES)
    assert before + STREAM_BYTES + plan.workers * (WORKER_BYTES + plan.image_bytes) <= memory_mb * MEGABYTE


def test_memory_that_is_too_little_for_one_worker_says_how_much_is_needed():
    with pytest.raises(PocketAffectError, match=r"preprocess\.memory_mb: too little for one worker\n  found:   64\n"):
        plan_memory(64, workers=4, shard_images=100, largest=SMALL)
    with pytest.raises(PocketAffectError, match=r"or lower preprocess\.shard_images") as caught:
        plan_memory(1024, workers=4, shard_images=10**6, largest=SMALL)
    enough = int(str(caught.value).split("allowed:")[1].split()[0])
    assert plan_memory(enough + 8, workers=4, shard_images=10**6, largest=SMALL).workers == 1


def test_too_little_memory_is_told_before_anything_is_written(tmp_path):
    copy = Copy(tmp_path / "copy")
    with pytest.raises(PocketAffectError, match="too little for one worker"):
        copy.write(memory_mb=64)
    assert not copy.work.exists()


def test_fewer_workers_run_where_all_do_not_fit_and_the_bytes_are_the_same(tmp_path, caplog):
    copy = Copy(tmp_path / "copy")
    copy.write()
    expected = contents(copy.target)
    with caplog.at_level(logging.INFO):
        copy.write(workers=7, memory_mb=megabytes_for(1, 40))
    warning, told = caplog.messages
    assert warning.startswith("1 of 7 workers fit into preprocess.memory_mb ")
    assert told.startswith("workers: 1, each with ")
    assert contents(copy.target) == expected
    enough = int(warning.split("; ")[1].split()[0])
    assert plan_memory(enough + 8, workers=7, shard_images=5, largest=LargestImage("", 1, 1, 1)).workers == 7


def test_an_image_too_large_for_one_worker_is_refused_before_any_work(tmp_path):
    copy = Copy(tmp_path / "copy")
    copy.rows[4] |= {"image_width": 9000, "image_height": 8000}
    copy.save()
    with pytest.raises(PocketAffectError) as caught:
        copy.write(memory_mb=megabytes_for(1, 200), workers=3)
    assert "train/0004.png: too large to decode within preprocess.memory_mb" in str(caught.value)
    assert "9000 x 8000 pixels" in str(caught.value)
    assert not copy.work.exists()
    enough = int(str(caught.value).split("memory_mb in params.yaml to ")[1].split(",")[0])
    copy.write(memory_mb=enough + 16)


def test_scaled_decoding_counts(tmp_path):
    """As a JPEG of which the face needs an eighth, the same image fits."""
    copy = Copy(tmp_path / "copy")
    copy.rows[4] |= {"path": "train/large.jpg", "image_width": 4500, "image_height": 4000}
    copy.rows[4] |= {"face_x": 500.0, "face_y": 500.0, "face_width": 3000.0, "face_height": 3000.0}
    Image.fromarray(picture(1, 90, 80)).resize((4500, 4000), Image.Resampling.NEAREST).save(
        copy.source / "train/large.jpg"
    )
    copy.save()
    memory_mb = megabytes_for(1, 60)
    copy.write(memory_mb=memory_mb)
    copy.rows[4]["path"] = "train/0004.png"
    copy.save()
    with pytest.raises(PocketAffectError, match="too large"):
        copy.write(memory_mb=memory_mb)


def test_what_the_manifest_cannot_tell_is_looked_at_in_the_file(tmp_path):
    """A progressive JPEG's coefficients take more than its pixels; only its bytes say that it is one."""
    copy = Copy(tmp_path / "copy")
    large = Image.fromarray(picture(1, 100, 100)).resize((2000, 2000))
    copy.rows[4] |= {"path": "train/large.jpg", "image_width": 2000, "image_height": 2000, "face_width": np.nan}
    copy.save()
    memory_mb = megabytes_for(1, 30)
    large.save(copy.source / "train/large.jpg")
    copy.write(memory_mb=memory_mb, image_size=512)
    large.save(copy.source / "train/large.jpg", progressive=True)
    with pytest.raises(
        PocketAffectError, match=r"train/large\.jpg: too large .*\n  found:   2000 x 2000 pixels, up to"
    ):
        copy.write(memory_mb=memory_mb, image_size=512)


@settings(max_examples=25)
@given(
    width=st.integers(24, 400),
    height=st.integers(24, 400),
    side=st.integers(8, 900) | st.none(),
    distance=st.floats(0, 300) | st.none(),
    margin=st.sampled_from([0.0, 0.3, 1.0]),
    size=st.sampled_from([32, 64, 128]),
    align=st.sampled_from(["none", "eyes"]),
)
def test_the_estimate_covers_the_pixels_that_are_decoded(width, height, side, distance, margin, size, align):
    from pocketaffect.data.faces import crop as faces

    stream = io.BytesIO()
    Image.fromarray(picture(1, width, height)).save(stream, "JPEG")
    box = None if side is None else FaceBox(1.0, 2.0, side, side / 2 + 1)
    eyes = None if distance is None else Eyes(10.0, 10.0, 10.0 + distance, 11.0)
    decoded = []
    with pytest.MonkeyPatch.context() as patch:
        plain = faces.decode_image
        patch.setattr(faces, "decode_image", lambda *a, **k: decoded.append(plain(*a, **k)) or decoded[0])
        decode_face(stream.getvalue(), box, eyes, margin=margin, size=size, align=align)
    boxes = np.array([[np.nan] * 4 if box is None else [box.x, box.y, box.width, box.height]])
    pairs = np.array([[np.nan] * 4 if eyes is None else [eyes.left_x, eyes.left_y, eyes.right_x, eyes.right_y]])
    widths, heights = np.array([float(width)]), np.array([float(height)])
    sides = find_sides(boxes, pairs, widths, heights, margin=margin, align=align)
    estimate = estimate_picture_bytes(widths, heights, sides, np.array([True]), size=size)[0]
    pixels = decoded[0].pixels.nbytes
    # Twice, for a picture that must be turned; libjpeg rounds sides up.
    assert 1.9 * pixels <= estimate <= 2 * pixels + 12 * (width + height) + 6 * sides.largest[0] ** 2 + 12


MEASURE = """
import resource, sys
from pathlib import Path
from pocketaffect.data.faces.crop import FaceBox, decode_face
from pocketaffect.data.shards.memory import read_memory_held
warm, content = (Path(name).read_bytes() for name in sys.argv[1:3])
side = float(sys.argv[3])
cut = dict(margin=0.0, size=128, align="none")
decode_face(warm, None, None, **cut)
held = read_memory_held()
decode_face(content, FaceBox(-50, -30, side, side), None, **cut)
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
print(peak - held)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("mode", "ending", "options"),
    [
        ("RGB", "jpg", {"quality": 90}),
        ("RGB", "jpg", {"quality": 95}),
        ("RGB", "jpg", {"quality": 90, "progressive": True, "subsampling": 0}),
        ("RGB", "jpg", {"exif": 6}),
        ("CMYK", "jpg", {"quality": 90}),
        ("L", "jpg", {}),
        ("RGB", "png", {"compress_level": 1}),
        ("RGBA", "png", {"compress_level": 1}),
        ("P", "png", {"compress_level": 1}),
        ("I;16", "png", {"compress_level": 1}),
        ("RGB", "webp", {"quality": 50, "method": 0}),
        ("P", "gif", {}),
        ("RGB", "tif", {"compression": "tiff_lzw"}),
        ("RGB", "bmp", {}),
    ],
)
def test_decoding_takes_no_more_memory_than_estimated(tmp_path, mode, ending, options):
    width, height = 3000, 2000
    grown = Image.fromarray(picture(1, 400, 300)).resize((width, height))
    noise = np.random.default_rng(0).integers(0, 24, (height, width, 1), dtype=np.uint8)
    grown = Image.fromarray(np.asarray(grown) // 2 + noise)
    if mode == "I;16":
        grown = Image.fromarray(np.asarray(grown.convert("L")).astype(np.uint16) * 257)
    if "exif" in options:
        options = {"exif": Image.Exif()}
        options["exif"][0x0112] = 6
    grown = grown if mode == "I;16" else grown.convert(mode)
    grown.save(tmp_path / f"large.{ending}", **options)
    grown.resize((60, 40)).save(tmp_path / f"warm.{ending}", **options)
    side = 180.0 if options.get("quality") == 95 else 2800.0  # 95: decoded at its full size, not an eighth
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / f"warm.{ending}", tmp_path / f"large.{ending}", str(side)],
        capture_output=True,
        text=True,
        check=True,
    )
    content = (tmp_path / f"large.{ending}").read_bytes()
    widths, heights = np.array([float(width)]), np.array([float(height)])
    boxes, eyes = np.array([[-50.0, -30.0, side, side]]), np.full((1, 4), np.nan)
    sides = find_sides(boxes, eyes, widths, heights, margin=0.0, align="none")
    jpeg = content.startswith(b"\xff\xd8") and mode != "CMYK"
    estimate = estimate_picture_bytes(widths, heights, sides, np.array([jpeg]), size=128)[0]
    estimate += estimate_file_bytes(content, width, height)
    assert int(done.stdout) <= estimate + 4 * MEGABYTE
    print(f"{mode} {ending}: {int(done.stdout) / MEGABYTE:.0f} MB of {estimate / MEGABYTE:.0f} MB")
