from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from skimage import data

from pocketaffect.app.server.detector import SIZE, convert_detector, place_anchors
from pocketaffect.app.server.runtime import DETECTOR, require_runtime
from pocketaffect.errors import PocketAffectError


def test_the_anchors_cover_two_grids() -> None:
    anchors = place_anchors()
    assert anchors.shape == (896, 2)
    np.testing.assert_allclose(anchors[0], [1 / 32, 1 / 32])
    np.testing.assert_allclose(anchors[2], [3 / 32, 1 / 32])
    np.testing.assert_allclose(anchors[512], [1 / 16, 1 / 16])
    assert len(np.unique(anchors, axis=0)) == 16 * 16 + 8 * 8


def test_the_detector_finds_the_one_face_of_a_photograph(runtime: Path) -> None:
    import cv2

    image = cv2.resize(data.astronaut(), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    session = onnxruntime.InferenceSession(runtime / DETECTOR)
    feed = {"image": image.transpose(2, 0, 1)[None].astype(np.float32)}
    scores, boxes, points = session.run(["scores", "boxes", "points"], feed)
    best = scores.argmax()
    assert scores[best] > 0.9
    np.testing.assert_allclose(boxes[best] * 512, [225, 125, 95, 95], atol=20)  # the face, as seen by eye
    right_eye, left_eye, nose = points[best][:3]
    assert right_eye[0] < nose[0] < left_eye[0]
    blank = {"image": np.full((1, 3, SIZE, SIZE), 127, np.float32)}
    assert session.run(["scores"], blank)[0].max() < 0.5


def test_another_file_is_no_detector(tmp_path: Path) -> None:
    with pytest.raises(PocketAffectError, match="TFLite"):
        convert_detector(b"no TFLite at all")
    with pytest.raises(PocketAffectError, match="make web"):
        require_runtime(tmp_path)
