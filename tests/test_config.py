from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from pocketaffect.config import REMOVED, Params, PromotionChecks, Section, find_defaults, load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import read_yaml

SHIPPED = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "params.yaml"


def change(file: Path, **changes: str | None) -> None:
    """Writes the shipped settings with the text of some keys (`section__key`) replaced, or the line left out."""
    lines = SHIPPED.read_text().splitlines()
    section = ""
    for number, line in enumerate(lines):
        key = line.split(":")[0]
        section = key if key and not key.startswith((" ", "#")) else section
        name = f"{section}__{key.strip()}" if key.startswith(" ") else key
        if name in changes:
            text = changes.pop(name)
            lines[number] = "" if text is None else line[: len(line) - len(line.lstrip())] + text
    assert not changes, "no such key in params.yaml"
    file.write_text("\n".join(lines))


def problems(file: Path) -> list[str]:
    with pytest.raises(PocketAffectError) as caught:
        load_params(file)
    first, *listed = str(caught.value).splitlines()
    assert first == f"{file}: {len(listed)} problem(s)"
    return [line.removeprefix("  - ") for line in listed]


def test_the_shipped_settings_are_valid_and_complete():
    params = load_params(SHIPPED)
    assert set(read_yaml(SHIPPED)) == set(params.model_dump(by_alias=True))
    assert read_yaml(SHIPPED) == params.model_dump(by_alias=True)


@pytest.mark.parametrize("value", ["true", "false"])
def test_a_key_that_is_gone_is_passed_over_with_its_advice(file, caplog, value):
    change(file, export__author=f"author: someone\n  compact: {value}")
    assert load_params(file).export.author == "someone"
    assert caplog.messages == [f"{file}: export.compact: {REMOVED['export.compact']}"]
    caplog.clear()
    load_params(file, advise=False)
    load_params(SHIPPED)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"export__finetune": "finetune: qat"}, "export.finetune: left in 0.2.0, since no network passed its"),
        (
            {"export__precision": "precision: int4-block"},
            "export.precision: left in 0.2.0, since no network passed its",
        ),
        ({"export__precision": "precision: pruned75-palette4"}, "export.precision: left in 0.2.0"),
        ({"export__precision": "precision: int8-activations"}, "export.precision: left in 0.2.0"),
    ],
)
def test_a_value_that_is_gone_is_refused_with_what_to_choose(file, changes, problem):
    change(file, **changes)
    (line,) = problems(file)
    assert line.startswith(problem)
    assert "; choose " in line or "; set " in line


def test_settings_cannot_be_changed_after_loading():
    with pytest.raises(ValueError, match="frozen"):
        load_params(SHIPPED).train.epochs = 3


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"train__epochs": "epocs: 3"}, "train.epocs: unknown key; did you mean 'epochs'?"),
        ({"sample": "sampel:"}, "sampel: unknown key; did you mean 'sample'?"),
        ({"validate": "validate_:"}, "validate_: unknown key; did you mean 'validate'?"),
        ({"register": "registry:"}, "registry: unknown key; did you mean 'register'?"),
        ({"train__rotation_degrees": "rotation: 3"}, "train.augment.rotation: unknown key; did you mean 'rotation_de"),
        ({"evaluate__batch_size": "zzz: 3"}, "evaluate.zzz: unknown key; known here: batch_size"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one_and_the_missing_one(file, changes, problem):
    change(file, **changes)
    found = problems(file)
    assert any(line.startswith(problem) for line in found), found
    assert len(found) == 2
    assert sum(": missing; add it" in line for line in found) == 1


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"train__epochs": 'epochs: "24"'}, "train.epochs: input should be a valid integer; found '24'"),
        ({"train__epochs": "epochs: 24.0"}, "train.epochs: input should be a valid integer; found 24.0"),
        ({"train__epochs": "epochs: true"}, "train.epochs: input should be a valid integer; found True"),
        ({"train__epochs": "epochs: 0"}, "train.epochs: input should be greater than or equal to 1; found 0"),
        ({"train__epochs": "epochs:"}, "train.epochs: input should be a valid integer; found None"),
        ({"train__seed": "seed: 4294967296"}, "train.seed: input should be less than 4294967296; found 4294967296"),
        ({"train__learning_rate": "learning_rate: .nan"}, "train.learning_rate: input should be"),
        ({"train__learning_rate": "learning_rate: .inf"}, "train.learning_rate: input should be a finite number"),
        ({"train__learning_rate": "learning_rate: 0"}, "train.learning_rate: input should be greater than 0; found 0"),
        ({"preprocess__margin": "margin: .nan"}, "preprocess.margin: input should be"),
        (
            {"preprocess__image_size": "image_size: 63"},
            "preprocess.image_size: input should be a multiple of 16",
        ),
        (
            {"model__architecture": "architecture: resnet"},
            "model.architecture: no such architecture; there are alexnet",
        ),
        ({"export__licence": "licence: 1.0"}, "export.licence: input should be a valid string; found 1.0"),
        ({"export__author": "author: ''"}, "export.author: string should have at least 1 character; found ''"),
        ({"register__model_name": "model_name: a/b"}, "register.model_name: string should match pattern"),
        ({"model": "model: 3\nunused:"}, "model: needs keys of its own; found 3"),
        ({"train__seed": "seed: [" + "1, " * 500 + "1]"}, "train.seed: input should be a valid integer; found [1, 1"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_found_and_what_is_allowed(file, changes, problem):
    change(file, **changes)
    found = problems(file)
    assert found[0].startswith(problem), found
    assert all(len(line) < 250 for line in found)


def test_numbers_with_an_exponent_and_whole_numbers_for_floats_are_read(file):
    change(file, train__learning_rate="learning_rate: 1e-3", preprocess__margin="margin: 0")
    params = load_params(file)
    assert (params.train.learning_rate, params.preprocess.margin) == (0.001, 0.0)


def test_all_problems_come_in_one_message(file):
    change(
        file,
        sample__seed="seed: x",
        train__epochs="epocs: 3",
        preprocess__image_size="image_size: 8",
        evaluate="evaluat:",
        export__precision="precision: int3",
    )
    found = problems(file)
    assert len(found) == 7
    for key in (
        "sample.seed",
        "train.epochs",
        "train.epocs",
        "preprocess.image_size",
        "evaluate",
        "evaluat",
        "export.precis",
    ):
        assert any(line.startswith(key) for line in found), key


def test_every_missing_section_is_named(file):
    file.write_text("train: {}\n")
    found = problems(file)
    for section in set(read_yaml(SHIPPED)) - {"train"}:
        assert any(line.startswith(f"{section}: missing") for line in found)
    assert any(line.startswith("train.augment: missing") for line in found)


def test_a_key_given_twice_is_refused(file):
    change(file, train__seed="seed: 1\n  seed: 2")
    with pytest.raises(PocketAffectError, match='duplicate key "seed"'):
        load_params(file)


def test_a_missing_file_says_where_to_run(file):
    with pytest.raises(
        PocketAffectError, match=r"params\.yaml: no such file\n  do:      run from the repository's root"
    ):
        load_params(file)


def test_keys_that_are_no_text_are_named(file):
    file.write_text(SHIPPED.read_text() + "\n7: 7\n")
    assert problems(file) == ["7: keys should be strings; found 7"]


def test_every_section_refuses_unknown_keys_and_conversions():
    def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
        inner = [field.annotation for field in model.model_fields.values()]
        models = [item for item in inner if isinstance(item, type) and issubclass(item, BaseModel)]
        return [model, *(found for item in models for found in sections(item))]

    found = sections(Params)
    assert len(found) == 1 + len(read_yaml(SHIPPED)) + 3  # and train.augment, train.distill, promotion.checks
    for section in found:
        assert section.model_config["extra"] == "forbid"
        assert section.model_config["strict"]
        assert section.model_config["frozen"]


def test_settings_that_contradict_each_other_are_all_named_when_the_file_is_read(file):
    changes = {"expression_weight": "0.0", "select": "accuracy", "logit_adjustment": "1.0", "precision": "bf16"}
    change(file, **{f"train__{key}": f"{key}: {value}" for key, value in changes.items()})
    found = problems(file)
    pairs = [
        ("train.select: accuracy", "train.expression_weight: 0"),
        ("train.logit_adjustment: 1", "train.class_weights: balanced"),
        ("train.precision: bf16", "train.instructions: avx2"),
    ]
    assert [[key in line for key in pair] for line, pair in zip(found, pairs, strict=True)] == [[True, True]] * 3


def test_a_gpu_may_be_there_when_the_file_is_read(file):
    change(file, train__precision="precision: bf16", train__accelerator="accelerator: auto")
    assert load_params(file).train.precision == "bf16"


def fields(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting under its dotted name; a check of the policy that is left out asks for nothing."""
    for name, field in section.model_fields.items():
        inner, key = field.annotation, f"{prefix}{field.alias or name}"
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            yield key, field
        elif inner is not PromotionChecks:
            yield from fields(inner, f"{key}.")


def test_the_settings_of_version_0_1_0_are_read():
    # A key that is new since then needs a default; one that is gone stands in `config` with what to do.
    old = Path(__file__).parent / "params_0_1_0.yaml"
    params, present = load_params(old), read_yaml(old)
    assert set(find_defaults(params)) == {key for key, field in fields(Params) if not field.is_required()}
    for key, field in fields(Params):
        content = present
        for part in key.split("."):
            content = content.get(part, {})
        assert field.is_required() == (content != {}), f"{key}: a default hides a setting, or a new key has none"


def test_settings_that_a_file_leaves_out_have_defaults_that_can_be_named():
    class Inner(Section):
        old: int
        new: float = 0.5

    class Outer(Section):
        inner_: Annotated[Inner, Field(alias="inner")]
        checks: PromotionChecks
        later: bool = True

    settings = Outer.model_validate({"inner": {"old": 1}, "checks": {}})
    assert find_defaults(settings) == {"inner.new": 0.5, "later": True}
    assert find_defaults(load_params(SHIPPED)) == {}
