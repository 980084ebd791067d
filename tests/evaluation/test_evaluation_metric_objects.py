import doctest
import pickle

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torchmetrics.regression import ConcordanceCorrCoef

from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation import agreement, correlation
from pocketaffect.evaluation.agreement import KrippendorffAlpha, SignAgreement
from pocketaffect.evaluation.correlation import Concordance, Pearson

METRICS = {
    "alpha": lambda: KrippendorffAlpha(8),
    "sign": lambda: SignAgreement(2),
    "concordance": lambda: Concordance(2),
    "pearson": lambda: Pearson(2),
}


def rows_for(name, rows=61):
    generator = torch.Generator().manual_seed(5)
    if name == "alpha":
        true = torch.randint(0, 8, (rows,), generator=generator)
        return torch.where(torch.rand(rows, generator=generator) < 0.6, true, (true + 1) % 8), true
    true = torch.rand(rows, 2, generator=generator) * 2 - 1
    return (true * 0.5 + torch.randn(rows, 2, generator=generator) * 0.2 + 0.1), true


def fed(name, *parts):
    metric = METRICS[name]()
    for part in parts:
        metric.update(*part)
    return metric


@pytest.fixture(params=METRICS)
def name(request):
    return request.param


def test_batches_of_any_size_give_the_value_of_all_rows(name):
    preds, target = rows_for(name)
    whole = fed(name, (preds, target)).compute()
    batches = list(zip(preds.split([1, 30, 7, 23]), target.split([1, 30, 7, 23]), strict=True))
    torch.testing.assert_close(fed(name, *batches).compute(), whole, rtol=0, atol=1e-12)


def test_two_merged_metrics_equal_one_over_all_rows(name):
    preds, target = rows_for(name)
    merged = fed(name, (preds[:17], target[:17]))
    merged.merge_state(fed(name, (preds[17:], target[17:])))
    whole = fed(name, (preds, target)).compute()
    torch.testing.assert_close(merged.compute(), whole, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_a_metric_that_saw_nothing_merges_without_a_trace(name):
    part = rows_for(name)
    merged = METRICS[name]()
    merged.merge_state(fed(name, part))
    torch.testing.assert_close(merged.compute(), fed(name, part).compute(), rtol=0, atol=1e-12)


def test_a_pickled_metric_goes_on_where_it_was(name):
    preds, target = rows_for(name)
    restored = pickle.loads(pickle.dumps(fed(name, (preds[:17], target[:17]))))
    restored.update(preds[17:], target[17:])
    whole = fed(name, (preds, target)).compute()
    torch.testing.assert_close(restored.compute(), whole, rtol=0, atol=1e-12)


def test_reset_forgets_all_rows(name):
    metric = fed(name, rows_for(name))
    metric.reset()
    with pytest.raises(PocketAffectError, match="no rows"), pytest.warns(UserWarning, match="before"):
        metric.compute()


def _rank(rank, address, queue):
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    found = {}
    for name in METRICS:
        preds, target = rows_for(name)
        found[name] = fed(name, (preds[rank::2], target[rank::2])).compute().tolist()
    queue.put((rank, found))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path):
    context = mp.get_context("spawn")
    queue = context.Queue()
    address = f"file://{tmp_path / 'rendezvous'}"
    processes = [context.Process(target=_rank, args=(rank, address, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=180) for _ in processes]
    for process in processes:
        process.join(timeout=30)
        assert process.exitcode == 0
    for _, found in results:
        for name, value in found.items():
            np.testing.assert_allclose(value, fed(name, rows_for(name)).compute(), atol=1e-12)


def test_concordance_is_torchmetrics_own_with_population_variance():
    preds, target = (part.double() for part in rows_for("concordance", rows=50))
    reference = ConcordanceCorrCoef(num_outputs=2)
    reference.set_dtype(torch.float64)
    reference.update(preds, target)
    ours = fed("concordance", (preds, target)).compute()
    # Only the means' distance is weighted differently: n - 1 against n.
    gap = (preds.mean(0) - target.mean(0)) ** 2
    spread = preds.var(0) + target.var(0)
    expected = reference.compute() * (spread + gap) / (spread + gap * 50 / 49)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)


def test_large_offsets_do_not_cancel_the_variance():
    preds, target = rows_for("pearson")
    shifted = fed("pearson", (preds.double() + 1e6, target.double() - 1e6)).compute()
    torch.testing.assert_close(shifted, fed("pearson", (preds, target)).compute(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["sign", "concordance", "pearson"])
def test_shapes_that_differ_are_refused(name):
    with pytest.raises(PocketAffectError, match=r"\[3, 2\], \[4, 2\]"):
        fed(name, (torch.zeros(3, 2), torch.zeros(4, 2)))


def test_a_class_outside_the_range_is_refused():
    with pytest.raises(PocketAffectError, match=r"0\.\.8"):
        fed("alpha", (torch.tensor([0, 8]), torch.tensor([0, 1])))


@pytest.mark.parametrize("module", [agreement, correlation])
def test_the_docstrings_examples_run(module):
    result = doctest.testmod(module)
    assert result.attempted >= 4
    assert result.failed == 0
