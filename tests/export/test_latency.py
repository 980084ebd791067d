import itertools

import pytest
import torch

from pocketaffect.export.latency import time_in_turns, time_twins
from pocketaffect.models.network import NetworkSpec


def test_each_has_its_turn_in_every_round():
    called = []
    times = time_in_turns({name: lambda name=name: called.append(name) for name in "ab"}, rounds=3, calls=2)
    assert "".join(called) == "aabb" * 3
    assert list(times) == ["a", "b"]
    assert all(time > 0 for time in times.values())


def test_the_median_of_rounds_passes_over_a_busy_moment(monkeypatch):
    # One of five rounds takes a hundred times as long, and of each round one call.
    lengths = itertools.chain.from_iterable([slow, slow, 50 * slow] for slow in (1, 1, 100, 2, 2))
    clock, now = [0.0], itertools.count()

    def read() -> float:
        clock[0] += next(lengths) / 1e3 if next(now) % 2 else 0
        return clock[0]

    monkeypatch.setattr("pocketaffect.export.latency.time.perf_counter", read)
    assert time_in_turns({"one": lambda: None}, rounds=5, calls=3) == {"one": pytest.approx(2)}


@pytest.mark.slow
def test_twins_are_timed_once_each_and_the_caller_s_random_numbers_go_on_as_they_were():
    small, large = NetworkSpec("mobilenet", 0.1, 32, "plain"), NetworkSpec("mobileone_s0", 0.1, 64, "prototype")
    state = torch.random.get_rng_state()
    times = time_twins([small, large, small])
    assert list(times) == [small, large]
    assert all(time > 0 for time in times.values())
    assert torch.equal(torch.random.get_rng_state(), state)
