from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketaffect.data.faces.crop import FaceBox
from pocketaffect.predict.tracks import LONGEST_GAP, FaceTracker, Smoother


def test_faces_keep_their_numbers_when_their_order_changes():
    tracker = FaceTracker()
    assert tracker.follow([FaceBox(0, 0, 50, 50), FaceBox(200, 0, 40, 40)], 0.0) == [0, 1]
    assert tracker.follow([FaceBox(198, 0, 60, 60), FaceBox(5, 0, 50, 50)], 0.1) == [1, 0]


def test_a_face_that_was_gone_for_long_is_another_one():
    tracker = FaceTracker()
    box = FaceBox(0, 0, 50, 50)
    assert tracker.follow([box], 0.0) == [0]
    assert tracker.follow([], 0.5) == []
    assert tracker.follow([box], LONGEST_GAP) == [0]
    assert tracker.follow([box], 2 * LONGEST_GAP + 0.1) == [1]


def test_two_faces_never_share_a_number():
    tracker = FaceTracker()
    tracker.follow([FaceBox(0, 0, 50, 50)], 0.0)
    assert sorted(tracker.follow([FaceBox(0, 0, 50, 50), FaceBox(4, 0, 50, 50)], 0.1)) == [0, 1]


@given(st.floats(0.05, 5), st.integers(1, 40), st.integers(1, 7))
def test_a_step_comes_through_by_the_same_share_at_every_frame_rate(time_constant, rate, parts):
    smoother = Smoother(time_constant)
    smoother.smooth(0, np.array([0.0]), 0.0)
    for frame in range(1, rate * parts + 1):
        value = smoother.smooth(0, np.array([1.0]), frame / rate)
    assert value[0] == pytest.approx(1 - np.exp(-parts / time_constant), abs=1e-9)


def test_no_time_constant_leaves_values_and_tracks_do_not_mix():
    plain = Smoother(0)
    plain.smooth(0, np.array([0.2]), 0.0)
    assert plain.smooth(0, np.array([0.9]), 0.1) == [0.9]
    smoother = Smoother(1)
    smoother.smooth(0, np.array([0.0]), 0.0)
    assert smoother.smooth(1, np.array([1.0]), 0.1) == [1.0]
