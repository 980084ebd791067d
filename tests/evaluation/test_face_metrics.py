import doctest
import pickle

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from evaluation_examples import draw_rows

from pocketaffect.evaluation import evaluate
from pocketaffect.evaluation.evaluate import FaceMetrics
from pocketaffect.evaluation.metrics import measure

PREDICTIONS, LABELS = draw_rows(61)
EXPECTED = measure(PREDICTIONS, LABELS)


def rows(chosen):
    """Some of the faces, as tensors."""
    columns = (PREDICTIONS.probabilities, PREDICTIONS.valence_arousal, LABELS.expression, LABELS.valence_arousal)
    return [torch.from_numpy(column[chosen]) for column in columns]


def fed(*parts):
    metric = FaceMetrics()
    for part in parts:
        metric.update(*rows(part))
    return metric


def values(metric):
    return {name: value.item() for name, value in metric.compute().items()}


def test_batches_of_any_size_give_the_value_of_all_rows():
    assert values(fed(slice(0, 1), slice(1, 31), slice(31, 38), slice(38, 61))) == EXPECTED


def test_two_merged_metrics_equal_one_over_all_rows():
    merged = fed(slice(17, 61))
    merged.merge_state(fed(slice(0, 17)))
    assert values(merged) == pytest.approx(EXPECTED, abs=1e-12)


def test_a_pickled_metric_goes_on_where_it_was():
    restored = pickle.loads(pickle.dumps(fed(slice(0, 17))))
    restored.update(*rows(slice(17, 61)))
    assert values(restored) == EXPECTED


def test_after_a_reset_only_new_rows_count():
    metric = fed(slice(0, 40))
    metric.reset()
    metric.update(*rows(slice(40, 61)))
    assert values(metric) == values(fed(slice(40, 61)))


def _rank(rank, address, queue):
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    queue.put(values(fed(slice(rank, None, 2))))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path):
    context = mp.get_context("spawn")
    queue = context.Queue()
    address = f"file://{tmp_path / 'rendezvous'}"
    processes = [context.Process(target=_rank, args=(rank, address, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=300) for _ in processes]
    for process in processes:
        process.join(timeout=300)
        assert process.exitcode == 0
    for found in results:
        assert found == pytest.approx(EXPECTED, abs=1e-12)


def test_the_docstrings_example_runs():
    result = doctest.testmod(evaluate)
    assert (result.attempted >= 4, result.failed) == (True, 0)
    assert np.isfinite(list(EXPECTED.values())).all()
