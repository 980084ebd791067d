from __future__ import annotations

import pickle

from pocketaffect.errors import PocketAffectError


def test_the_text_gives_problem_found_allowed_and_what_to_do_in_this_order():
    error = PocketAffectError("a.csv: wrong", todo="mend it", allowed="0..10", found=11)
    assert str(error) == "a.csv: wrong\n  found:   11\n  allowed: 0..10\n  do:      mend it"
    assert error.problem == "a.csv: wrong"


def test_parts_that_are_not_given_take_no_line_and_zero_is_given():
    assert str(PocketAffectError("wrong")) == "wrong"
    assert str(PocketAffectError("wrong", found=0)) == "wrong\n  found:   0"


def test_an_error_keeps_its_text_on_the_way_out_of_a_worker_process():
    error = PocketAffectError("a.csv: wrong", found=11, todo="mend it")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert copy.problem == error.problem
