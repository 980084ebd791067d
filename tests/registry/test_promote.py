from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from mlflow import MlflowClient
from registry_parts import VERIFIED, in_processes, make_answers

from pocketaffect import paths
from pocketaffect.checkout import ask_git
from pocketaffect.config import load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.promotion import policy
from pocketaffect.registry.promotion import promote as promotion
from pocketaffect.registry.promotion.log import ENTRY_TAG, SUFFIX, look, read_log, survey
from pocketaffect.registry.promotion.promote import promote, roll_back
from pocketaffect.registry.store.store import open_store
from pocketaffect.registry.store.versions import aliased_version, get_version, package_path

NAME = "pocketaffect"


def champion(store) -> int | None:
    version = aliased_version(store, NAME, "champion")
    return None if version is None else version.version


def failed(decision) -> list[str]:
    return [check.name for check in decision.checks if check.passed is False]


def test_the_first_champion_has_nothing_to_be_compared_with(store, registrar, params):
    registrar(b"a")
    decision = promote(store, params)
    assert decision.outcome == "promoted"
    relative = [check for check in decision.checks if check.name.startswith("max_drop_")]
    assert relative
    assert {(check.passed, check.remark) for check in relative} == {(None, "no champion yet: nothing to compare with")}
    assert champion(store) == 1
    assert decision.version.aliases == ("candidate", "champion")


def test_who_when_why_before_and_after_stand_in_the_log_and_on_the_version(store, registrar, params, root):
    registrar(b"a")
    promote(store, params)
    second = registrar(b"b")
    decision = promote(store, params)
    first, last = read_log(store, NAME).entries
    assert (first.before, first.after, last.before, last.after) == (None, 1, 1, 2)
    assert last.previous == first.sha256
    assert "@" in last.who
    assert last.when.endswith("+00:00")
    made = [check.name for check in decision.checks if check.passed is not None]
    assert last.why == f"held: {', '.join(made)}"
    assert (list(last.checks), last.policy) == (
        made,
        f"params.yaml of commit {ask_git(root, 'rev-parse', 'HEAD')[:12]}",
    )
    assert last.digest == second.digest
    tags = get_version(store, NAME, 2).tags
    assert (tags["promotion.verdict"], tags["promotion.time"], tags["promotion.failed"]) == (
        "promoted",
        last.when,
        "none",
    )
    (verdict,) = store.client().list_artifacts(second.run_id, "promotion")
    content = json.loads(Path(store.client().download_artifacts(second.run_id, verdict.path)).read_text())
    assert content["champion"]["version"] == 1
    assert [check["name"] for check in content["checks"]] == [check.name for check in decision.checks]


def test_a_worse_candidate_is_refused_with_each_failed_check_its_value_and_limit(store, registrar, params):
    registrar(b"a", right=0.95)
    promote(store, params)
    registrar(b"b", right=0.45)
    decision = promote(store, params)
    assert decision.outcome == "refused"
    assert {"min_balanced_accuracy", "max_drop_balanced_accuracy"} <= set(failed(decision))
    row = next(check for check in decision.checks if check.name == "max_drop_balanced_accuracy")
    assert row.value.startswith("-0.")
    assert row.limit == ">= -0.05 at the lower end"
    assert champion(store) == 1
    assert len(read_log(store, NAME).entries) == 1
    assert get_version(store, NAME, 2).tags["promotion.verdict"] == "refused"


@pytest.mark.slow
def test_an_override_needs_a_reason_and_is_recorded_with_what_it_overrode(store, registrar, params):
    registrar(b"a", right=0.3)
    with pytest.raises(PocketAffectError, match="no reason given"):
        promote(store, params, override=" ")
    decision = promote(store, params, override="a demonstration")
    assert decision.outcome == "overridden"
    (entry,) = read_log(store, NAME).entries
    assert (entry.kind, entry.why) == ("override", "a demonstration")
    assert list(entry.failed) == failed(decision) != []
    assert get_version(store, NAME, 1).tags["promotion.verdict"] == "overridden"


@pytest.mark.slow
def test_an_override_that_overrides_nothing_is_a_promotion(store, registrar, params):
    registrar(b"a")
    assert promote(store, params, override="to be sure").outcome == "promoted"
    assert read_log(store, NAME).entries[0].kind == "promotion"


def test_a_dry_run_changes_nothing(store, registrar, params, root):
    registrar(b"a")
    before = (root / "mlruns" / "mlflow.db").read_bytes(), sorted((root / "mlruns").rglob("*"))
    assert promote(store, params, dry_run=True).outcome == "would be promoted"
    assert before == ((root / "mlruns" / "mlflow.db").read_bytes(), sorted((root / "mlruns").rglob("*")))


@pytest.mark.slow
def test_the_champion_again_is_no_promotion(store, registrar, params):
    registrar(b"a")
    promote(store, params)
    assert promote(store, params, "1").outcome == "champion already"
    assert len(read_log(store, NAME).entries) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "check", "remark"),
    [
        (
            {"verification": {"passed": False, "checks": [{"name": "bytes", "passed": False}]}},
            "verification_passed",
            "bytes",
        ),
        ({"verification": None}, "verification_passed", "no verification report"),
        ({"contract": {"rows": 10, "quarantined": 1}}, "contract_passed", "10.00% of the rows quarantined"),
        ({"dirty_paths": ("params.yaml",)}, "lineage_complete", r"uncommitted changes (params.yaml)"),
        ({"commit": "no git"}, "lineage_complete", "commit: no git"),
        ({"commit": "a" * 40}, "lineage_complete", "commit aaaaaaaaaaaa is on no branch or tag"),
        ({"data_md5": "none"}, "lineage_complete", "no data.md5"),
        ({"says_data": "f" * 32 + ".dir"}, "lineage_complete", "the file says data ffff"),
    ],
)
def test_what_is_missing_is_named(store, registrar, params, changes, check, remark):
    registrar(b"a", **changes)
    decision = promote(store, params, dry_run=True)
    assert failed(decision) == [check]
    assert remark in next(row.remark for row in decision.checks if row.name == check)


@pytest.mark.slow
def test_an_audit_is_asked_for_only_where_the_policy_says_so(store, registrar, params):
    registrar(b"a")
    checks = params.promotion.checks.model_copy(update={"audit_passed": True})
    strict = params.model_copy(update={"promotion": params.promotion.model_copy(update={"checks": checks})})
    assert failed(promote(store, strict, dry_run=True)) == ["audit_passed"]
    for verdict, wrong in (("differs", ["audit_passed"]), ("equal within tolerance", []), ("bit-identical", [])):
        store.client().set_model_version_tag(NAME, "1", "audit", verdict)
        assert failed(promote(store, strict, dry_run=True)) == wrong


def test_roll_back_goes_to_the_champion_before_and_again_further(store, registrar, params):
    for content in (b"a", b"b", b"c"):
        registrar(content)
        promote(store, params)
    assert roll_back(store, NAME, why="complaints").version.version == 2
    assert read_log(store, NAME).entries[-1].why == "complaints"
    assert roll_back(store, NAME).version.version == 1
    with pytest.raises(PocketAffectError, match="no champion to go back to"):
        roll_back(store, NAME)
    assert roll_back(store, NAME, "3").version.version == 3
    assert champion(store) == 3
    kinds = [entry.kind for entry in read_log(store, NAME).entries]
    assert kinds == ["promotion"] * 3 + ["rollback"] * 3


@pytest.mark.slow
def test_roll_back_does_not_go_around_the_policy(store, registrar, params):
    registrar(b"a")
    with pytest.raises(PocketAffectError, match="no champion to go back to"):
        roll_back(store, NAME)
    promote(store, params)
    registrar(b"b", right=0.2)
    with pytest.raises(PocketAffectError, match="version 2 of 'pocketaffect' never was champion"):
        roll_back(store, NAME, 2)


@pytest.mark.slow
def test_unknown_versions_and_aliases_are_refused(store, registrar, params):
    with pytest.raises(PocketAffectError, match="nothing is registered under this name yet"):
        promote(store, params)
    registrar(b"a")
    for wanted in ("7", "newest"):
        with pytest.raises(PocketAffectError, match="aliases candidate; versions 1"):
            promote(store, params, wanted)


def test_a_package_with_other_bytes_is_refused_by_promote_and_rollback_and_no_override_helps(store, registrar, params):
    registrar(b"a")
    promote(store, params)
    registrar(b"b")
    promote(store, params)
    (package_path(store, get_version(store, NAME, 1)) / "Manifest.json").write_text("changed")
    with pytest.raises(PocketAffectError, match="mlpackage is not what was registered"):
        roll_back(store, NAME)
    with pytest.raises(PocketAffectError, match="mlpackage is not what was registered"):
        promote(store, params, 1, override="because")
    assert champion(store) == 2


@pytest.mark.slow
def test_a_changed_report_is_refused(store, registrar, params):
    version = registrar(b"a", verification=VERIFIED | {"passed": False})
    file = package_path(store, version).parent.parent / "verification.json"
    file.write_text(json.dumps(VERIFIED))
    with pytest.raises(PocketAffectError, match=r"verification\.json is not what was registered"):
        promote(store, params)


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(store, registrar, params, tmp_path, capfd):
    registrar(b"a")
    registrar(b"b")

    def work(number: int) -> None:
        real = promotion.gather_evidence

        def wait_for_the_other(*arguments):
            gathered = real(*arguments)
            (tmp_path / f"ready{number}").touch()
            while not (tmp_path / f"ready{1 - number}").exists():
                pass
            return gathered

        promotion.gather_evidence = wait_for_the_other  # in the forked process only
        try:
            promote(open_store(store.artifact_root.parent.parent), params, number + 1)
        except PocketAffectError as error:
            (tmp_path / "told").write_text(str(error))

    assert in_processes(2, work) == [0, 0], capfd.readouterr().err
    (entry,) = read_log(store, NAME).entries
    assert champion(store) == entry.after
    assert f"version {entry.after} became champion" in (tmp_path / "told").read_text()


@pytest.mark.slow
def test_another_machine_that_promoted_first_on_a_shared_store_wins(store, registrar, params, tmp_path, monkeypatch):
    # Two machines share a store but no lock file: the second writes its entry between our look and ours.
    registrar(b"a")
    registrar(b"b")
    theirs = dataclasses.replace(store, lock_file=tmp_path / "theirs")
    real, tried = promotion.append_entry, []

    def overtaken(*arguments):
        if not tried:
            tried.append(True)
            promote(theirs, params, 2)
        return real(*arguments)

    monkeypatch.setattr(promotion, "append_entry", overtaken)
    with pytest.raises(PocketAffectError, match="another promotion came first"):
        promote(store, params, 1)
    log = read_log(store, NAME)
    assert [entry.after for entry in log.entries] == [2]
    assert [entry.after for entry in log.overtaken] == [1]
    assert log.problems == ()
    assert champion(store) == 2
    assert promote(store, params, 1).outcome == "promoted"


STEPS = (
    "log_artifact",
    "create_registered_model",
    "create_model_version",
    "set_registered_model_alias",
    "set_model_version_tag",
)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_the_same_command_completes_it(store, registrar, params, step):
    registrar(b"a")
    real = getattr(MlflowClient, step)

    def killed(self, *args, **kwargs):
        real(self, *args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    def work(_number: int) -> None:
        setattr(MlflowClient, step, killed)  # in the forked process only
        promote(store, params)

    assert in_processes(1, work) == [-signal.SIGKILL]
    _, live, remark = look(store, NAME)
    assert remark == ""
    assert promote(store, params).outcome == ("promoted" if live is None else "champion already")
    (entry,) = read_log(store, NAME).entries
    assert entry.applied
    assert champion(store) == 1
    assert get_version(store, NAME, 1).tags["promotion.verdict"] == "promoted"


def test_checks_taken_out_of_the_policy_and_not_committed_are_told_and_logged(store, registrar, params, root):
    registrar(b"a", right=0.3)
    assert promote(store, params, dry_run=True).outcome == "would be refused"
    text = (root / "params.yaml").read_text()
    lax = re.sub(r"    (min_|max_|lineage|verification|contract|audit)\w+:.*\n", "", text)
    (root / "params.yaml").write_text(lax.replace("  checks:\n", "  checks: {}\n"))
    decision = promote(store, load_params(root / "params.yaml"))
    (entry,) = read_log(store, NAME).entries
    assert (entry.checks, entry.why) == ((), "held: no check was made")
    assert entry.policy.endswith(" with changes, not committed")
    assert "the policy makes no check; the policy is params.yaml of commit" in decision.remark
    assert f"({entry.policy})" in survey(store, NAME)


def test_a_log_of_the_first_form_verifies_and_goes_on(store, registrar, params):
    version = registrar(b"a")
    content = {
        **{"after": 1, "before": None, "digest": version.digest, "failed": [], "kind": "promotion", "previous": ""},
        **{"remark": "", "verdict_sha256": "", "when": "2026-11-01T00:00:00.000000+00:00", "who": "t@h"},
        "why": "every check of the policy held",
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    tags = {ENTRY_TAG: text, "promotion.sha256": hashlib.sha256(text.encode()).hexdigest(), "promotion.applied": "true"}
    store.client().create_registered_model(NAME + SUFFIX)
    store.client().create_model_version(NAME + SUFFIX, version.source, version.run_id, tags=tags)
    store.client().set_registered_model_alias(NAME, "champion", "1")
    registrar(b"b")
    promote(store, params)
    log = read_log(store, NAME)
    assert (log.problems, [entry.form for entry in log.entries]) == ((), [1, 2])


def test_a_candidate_that_is_not_what_lies_in_out_is_told(store, registrar, params, root):
    first, _ = registrar(b"a"), registrar(b"b")
    shutil.copytree(package_path(store, first), root / paths.PACKAGE)
    assert "candidate is version 2, and out/export" in promote(store, params, dry_run=True).remark
    registrar(b"a")
    assert promote(store, params, dry_run=True).remark == ""


@pytest.mark.slow
def test_an_alias_that_was_moved_by_hand_is_told_and_logged(store, registrar, params):
    for content in (b"a", b"b"):
        registrar(content)
        promote(store, params)
    store.client().set_registered_model_alias(NAME, "champion", "1")
    registrar(b"c")
    decision = promote(store, params)
    assert decision.before.version == 1
    assert "the champion is version 2, but the alias stands at version 1" in decision.remark
    assert read_log(store, NAME).entries[-1].remark == decision.remark
    assert champion(store) == 3


@pytest.mark.slow
def test_a_changed_entry_and_a_removed_one_are_noticed(store, registrar, params):
    for content in (b"a", b"b", b"c"):
        registrar(content)
        promote(store, params)
    client = store.client()
    entry = client.get_model_version(NAME + SUFFIX, "2").tags[ENTRY_TAG]
    client.set_model_version_tag(NAME + SUFFIX, "2", ENTRY_TAG, entry.replace("held:", "did not hold:"))
    assert read_log(store, NAME).problems == ("entry 2 was changed after it was written",)
    client.delete_model_version(NAME + SUFFIX, "2")
    assert read_log(store, NAME).problems == ("an entry before 3 is missing",)
    assert "tampered" in look(store, NAME)[2]


def test_a_champion_of_other_data_is_measured_anew_before_it_is_compared(store, registrar, params, monkeypatch):
    registrar(b"a", right=0.99, validation="w" * 64)
    promote(store, params)
    registrar(b"b", right=0.8)
    asked = []

    def execute(package, shards, **options):
        asked.append((package, options["wanted"]))
        return make_answers(right=0.5, seed=5), "its faces made smaller, from 96 to 64 px"

    # Executing is mlpackage's, and tested there with real packages: test_publish does it through the whole chain.
    monkeypatch.setattr(policy, "execute_on_shards", execute)
    decision = promote(store, params)
    assert asked == [(package_path(store, get_version(store, NAME, 1)), "v" * 64)]
    row = next(check for check in decision.checks if check.name == "max_drop_balanced_accuracy")
    assert row.passed
    assert "version 1 measured anew; its faces made smaller, from 96 to 64 px" in row.remark
    assert decision.outcome == "promoted"


@pytest.mark.slow
def test_a_champion_that_cannot_be_measured_fails_the_comparison_alone(store, registrar, params):
    registrar(b"a", validation="w" * 64)
    promote(store, params)
    registrar(b"b")
    decision = promote(store, params, override="its data is gone")
    assert set(failed(decision)) == {name for name in failed(decision) if name.startswith("max_drop_")} != set()
    row = next(check for check in decision.checks if check.passed is False)
    assert row.remark.startswith("version 1 cannot be measured: ")
    assert "no shards" in row.remark
    assert decision.outcome == "overridden"
