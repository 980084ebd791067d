"""Requests to a registered model, by the code that `mlflow models serve` answers with."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import onnx
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations
from onnx import TensorProto, helper
from PIL import Image

from pocketaffect.files import hash_file
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.registry.store.runs import write_flavor

SIZE = 8


def write_twin(file: Path) -> None:
    """An ONNX file with a real twin's input and outputs: the mean of each colour, repeated."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["faces", 3, SIZE, SIZE])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["faces", count])
        for name, count in (("probabilities", 8), ("valence_arousal", 2))
    ]
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["means"], keepdims=0),
        helper.make_node("Gather", ["means", "eight"], ["probabilities"], axis=1),
        helper.make_node("Gather", ["means", "two"], ["valence_arousal"], axis=1),
    ]
    constants = {"axes": [2, 3], "eight": [0, 1, 2, 0, 0, 0, 0, 0], "two": [1, 2]}
    given = [helper.make_tensor(name, TensorProto.INT64, [len(value)], value) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "twin", [image], outputs, given)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), file)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_twin(folder / "twin.onnx")
    write_flavor(folder, served_file="twin.onnx", forms={"twin.onnx": hash_file(folder / "twin.onnx")})
    return mlflow.pyfunc.load_model(str(folder))


def picture(width: int = SIZE, height: int = SIZE, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    pixels[..., 2] = 255
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def huge() -> str:
    """A file of some kilobytes that holds 180 million pixels."""
    stream = io.BytesIO()
    Image.new("1", (20_000, 9_000)).save(stream, "PNG")
    return encode(stream.getvalue())


def encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def ask(model, body: str, kind: str = "application/json") -> list[dict]:
    answer = invocations(body, kind, model, model.metadata.get_input_schema())
    return json.loads(answer.response)["predictions"]


def table(*images: object) -> str:
    return json.dumps({"dataframe_split": {"columns": ["image"], "data": [[image] for image in images]}})


FACE = encode(picture())
REQUESTS = {
    "split": table(FACE),
    "JPEG": table(encode(picture(form="JPEG"))),
    "of another size": table(encode(picture(100, 104))),
    "base64 in lines": table(base64.encodebytes(picture()).decode()),
    "records": json.dumps({"dataframe_records": [{"image": FACE}]}),
    "inputs": json.dumps({"inputs": {"image": [FACE]}}),
    "instances": json.dumps({"instances": [{"image": FACE}]}),
    "csv": f"image\n{FACE}\n",
}


@pytest.mark.parametrize("form", REQUESTS)
def test_every_form_of_a_request_is_answered_with_a_row_for_each_picture(model, form):
    (row,) = ask(model, REQUESTS[form], "text/csv" if form == "csv" else "application/json")
    assert row["expression"] == EXPRESSIONS[2]
    assert row["arousal"] == pytest.approx(255, abs=40)  # JPEG's colours are not exact


def test_bytes_are_taken_as_they_are(model):
    import pandas as pd

    assert list(model.predict(pd.DataFrame({"image": [picture()] * 2}))["expression"]) == [EXPRESSIONS[2]] * 2


WRONG = {
    "no rows": (table(), "no rows; allowed: a row for each picture"),
    "number": (table(5), "image in row 0: int; allowed: the bytes of a JPEG or PNG file; in JSON: as base64"),
    "null": (table(FACE, None), "image in row 1: "),
    "list": (table([1, 2]), "image in row 0: list"),
    "no base64": (table(FACE, "@@@@"), "image in row 1: not base64"),
    "text": (table("hello"), "image in row 0: not base64"),
    "address": (table("data:image/png;base64," + FACE), "image in row 0: not base64"),
    "empty": (table(""), "image in row 0: neither a JPEG nor a PNG file"),
    "other file": (table(encode(b"GIF89a")), "image in row 0: neither a JPEG nor a PNG file"),
    "cut short": (table(encode(picture(64, 64)[:3000])), "neither a JPEG nor a PNG file that can be read"),
    "huge": (table(huge()), "that can be read"),
    "wide": (table(encode(picture(64, 200))), "image in row 0: 64 x 200 px; allowed: a square around one face"),
    "other column": (json.dumps({"dataframe_split": {"columns": ["x"], "data": [[FACE]]}}), "missing inputs ['image']"),
    "no JSON": ("hello", "valid JSON"),
    "nothing": ("", "valid JSON"),
    "other keys": ("{}", "exactly one of the input fields"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_refused_with_what_was_found_and_no_stack_trace(model, case):
    body, message = WRONG[case]
    with pytest.raises(MlflowException) as refused:
        ask(model, body)
    told = json.loads(refused.value.serialize_as_json())
    assert refused.value.get_http_status_code() == 400
    assert message in told["message"]
    assert "stack_trace" not in told
