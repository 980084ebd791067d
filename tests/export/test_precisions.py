"""The registry of precisions: what each needs, and who may ask for it."""

from __future__ import annotations

import pytest

from pocketaffect.errors import PocketAffectError
from pocketaffect.precisions import (
    AUTO,
    PRECISIONS,
    SPEC_VERSIONS,
    find_precision,
    known_precision,
    readable_precisions,
    require_usable,
)


def test_every_precision_has_its_own_name_and_a_known_target():
    for name, precision in PRECISIONS.items():
        assert precision.name == name != AUTO
        assert precision.target in SPEC_VERSIONS
        assert precision.description


def test_the_forms_that_no_device_was_seen_to_open_say_so():
    said = [one.name for one in PRECISIONS.values() if "not seen on a device" in one.system]
    assert said == ["palette6-grouped", "palette4-grouped"]


def test_newer_systems_read_all_that_older_ones_read():
    read = [{one.name for one in readable_precisions(target)} for target in SPEC_VERSIONS]
    assert read[0] <= read[1] < read[2]
    assert {"fp32", "fp16", "int8", "palette8", "palette6", "palette4", "palette2"} == read[0]
    assert {"palette6-grouped", "palette4-grouped"} == read[2] - read[0]


@pytest.mark.parametrize("target", ["iOS16", "iOS17"])
def test_a_precision_for_newer_systems_is_refused_with_both_named_and_what_would_do(target):
    with pytest.raises(PocketAffectError) as raised:
        require_usable("palette4-grouped", target, "none")
    message = str(raised.value)
    assert "export.precision palette4-grouped needs iOS18" in message
    assert f"export.deployment_target: {target}" in message
    assert "palette6, palette4, palette2" in message
    require_usable("palette4-grouped", "iOS18", "none")


@pytest.mark.parametrize("precision", ["int8", "fp16", "auto"])
def test_only_palettes_go_with_fine_tuning(precision):
    require_usable(precision, "iOS16", "none")
    with pytest.raises(
        PocketAffectError, match=f"finetune dkm does not go with export.precision {precision}"
    ) as raised:
        require_usable(precision, "iOS16", "dkm")
    assert "palette8, palette6, palette4, palette2" in str(raised.value)
    require_usable("palette4", "iOS16", "dkm")


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(PocketAffectError, match="palette4-grouped"):
        find_precision("int3")
    with pytest.raises(PocketAffectError, match="palette4-grouped"):
        require_usable("int3", "iOS16", "none")
    with pytest.raises(PocketAffectError, match="iOS16, iOS17, iOS18"):
        require_usable("fp16", "iOS15", "none")


def test_params_yaml_may_name_any_precision_or_leave_the_choice():
    assert [known_precision(name) for name in (*PRECISIONS, AUTO)] == [*PRECISIONS, AUTO]
    with pytest.raises(ValueError, match="auto, fp32, fp16"):
        known_precision("int3")
