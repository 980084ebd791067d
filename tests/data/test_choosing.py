from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketaffect.data.contract.ledger import set_choosing_apart
from pocketaffect.labels import ALL_SPLITS


def rows(count, *, identity=lambda _: "", group=lambda _: -1, validation=0):
    numbers = range(count)
    return pd.DataFrame(
        {
            "split": pd.Categorical(["train"] * (count - validation) + ["validation"] * validation),
            "path": pd.Series([f"1/{number}.jpg" for number in numbers], dtype="str"),
            "identity": pd.Series([identity(number) for number in numbers], dtype="str"),
            "duplicate_group": np.array([group(number) for number in numbers], dtype=np.int32),
        }
    )


def test_about_the_share_of_training_is_set_apart_and_none_at_zero():
    kept = rows(3000, validation=1000)
    assert set_choosing_apart(kept, 0.0) is kept
    split = set_choosing_apart(kept, 0.1)["split"]
    assert list(split.cat.categories) == list(ALL_SPLITS)
    assert (split == "choosing").sum() == pytest.approx(200, abs=40)
    assert (split[2000:] == "validation").all()


@given(share=st.floats(0.05, 0.5), people=st.integers(1, 40))
def test_all_pictures_of_a_person_or_of_a_group_of_near_duplicates_fall_to_one_side(share, people):
    by_person = set_choosing_apart(rows(120, identity=lambda number: f"p{number % people}"), share)
    by_group = set_choosing_apart(rows(120, group=lambda number: number % people), share)
    for found, of in ((by_person, "identity"), (by_group, "duplicate_group")):
        assert (found.groupby(of)["split"].nunique() == 1).all()


def test_rows_that_come_later_change_no_other_rows_side():
    few, more = (set_choosing_apart(rows(count), 0.3)["split"].astype("str") for count in (100, 150))
    assert few.tolist() == more.tolist()[:100]
