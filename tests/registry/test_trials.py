from __future__ import annotations

from pocketaffect.registry.lineage.trace import find_trial

SETTINGS = {
    "model.width": 0.35,
    "train.optimizer": "adamw",
    "train.warmup_epochs": 2.0,
    "train.epochs": 16,
    "export.budget_bytes": 500_000,
    "model.full_resolution_stem": False,
}


def test_a_version_says_the_best_trial_of_its_settings_and_no_other(store):
    client = store.client()
    assert find_trial(client, "faces", SETTINGS) == {}
    experiment = store.experiment_id("faces-sweeps")

    def log(tags: dict, params: dict, score: float | None = None) -> str:
        run = client.create_run(experiment, tags=tags).info.run_id
        for name, value in params.items():
            client.log_param(run, name, value)
        if score is not None:
            client.log_metric(run, "score", score)
        return run

    def log_trial(parent: str, number: int, score: float, outcome: str = "done", **changes) -> None:
        tags = {"sweep.study": f"study of {parent}", "sweep.trial": str(number), "sweep.outcome": outcome}
        settings = {"model.width": 0.35, "train.optimizer": "adamw", "train.warmup_epochs": 2} | changes
        log(tags | {"mlflow.parentRunId": parent}, settings, score)

    studies = [log({"sweep.trial": "all"}, {"epochs": epochs, "budget_bytes": 500_000}) for epochs in (16, 4)]
    log_trial(studies[0], 1, 0.9, **{"model.width": 0.5})
    log_trial(studies[0], 2, 0.9, outcome="stopped early")
    log_trial(studies[1], 3, 0.9)  # of 4 epochs: what was adopted from it would say so
    assert find_trial(client, "faces", SETTINGS) == {}
    log_trial(studies[0], 4, 0.6)
    log_trial(studies[0], 5, 0.7)
    log_trial(studies[0], 6, 0.65)
    assert find_trial(client, "faces", SETTINGS) == {"sweep.study": f"study of {studies[0]}", "sweep.trial": "5"}
    assert find_trial(client, "faces", SETTINGS | {"train.optimizer": "adam"}) == {}
