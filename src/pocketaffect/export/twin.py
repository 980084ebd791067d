"""The package's twin in ONNX, with the package's own decoded weights: for Android, servers and browsers.

It takes float32 [batch, 3, size, size], RGB in 0..255, and gives `probabilities` [batch, 8] and `valence_arousal`
[batch, 2]: what the package takes and gives, for any number of faces. A compressed weight is stored as the float16
that the package decodes it to, and cast when the model is loaded, so that no number differs from the package's.

It opens in onnxruntime 1.15 (2023) and later for Python, which tests execute, and by its format in onnxruntime-web and
onnxruntime-android of the same versions.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import nn

from pocketaffect.config import ExportParams
from pocketaffect.export.convert import ShippedOutputs
from pocketaffect.export.measure import Difference, Faces, Predictions, compare, predict_network
from pocketaffect.export.session import load_twin
from pocketaffect.export.verdict import Check, Form, convention_checks, parity_checks
from pocketaffect.files import hash_file, write_atomically
from pocketaffect.labels import IMAGE, PROBABILITIES, VALENCE_AROUSAL_OUTPUT

if TYPE_CHECKING:
    import onnx

IR_VERSION: Final = 8
OPSET: Final = 18
"""The oldest that carry it, both of ONNX 1.13. The exporter itself writes a newer IR version, which onnxruntime 1.17
refuses, and uses nothing of it but metadata of nodes."""

PRODUCER: Final = "pocketaffect"
_SAME_WEIGHTS: Final = 1e-3
"""Two float32 runtimes with the same weights: sums in another order gave up to 2e-6 on trained networks."""
_DIGITS: Final = 4
"""Decimals of what onnxruntime answers, whose arithmetic depends on the processor: reports shall not."""


def save_twin(network: nn.Module, size: int, metadata: Mapping[str, str], target: Path) -> None:
    """Writes the ONNX file; equal weights and metadata give equal bytes.

    Args:
        network: With the package's weights (`layers.transplant_weights`); maps float32 [n, 3, size, size] in
            [0, 1] to (logits [n, 8], valence-arousal [n, 2]).
        size: Pixels a side.
        metadata: What the package says about itself.
        target: The `.onnx` file.
    """
    model = _export(ShippedOutputs(network, takes_bytes=True).eval(), size)
    _strip(model)
    _store_halves(model)
    for key, value in sorted({**metadata, "input_layout": "float32 [batch, 3, size, size], RGB, 0..255"}.items()):
        model.metadata_props.add(key=key, value=value)
    with write_atomically(target) as draft:
        draft.write_bytes(model.SerializeToString(deterministic=True))


def _export(module: nn.Module, size: int) -> onnx.ModelProto:
    example = torch.zeros(2, 3, size, size)  # two: torch.export takes a batch of one for a constant
    for noisy in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter's own libraries
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[IMAGE],
            output_names=[PROBABILITIES, VALENCE_AROUSAL_OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Removes what tells of the machine: the exporter's version, stack traces with paths of source files."""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = PRODUCER, "", ""
    del model.metadata_props[:]
    graph = model.graph
    graph.name, graph.doc_string = PRODUCER, ""
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def _store_halves(model: onnx.ModelProto) -> None:
    """Stores each float32 weight that float16 holds exactly as float16, with a cast in front of its readers."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if values.size < 64 or not np.array_equal(halves.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(halves, f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def verify_twin(file: Path, plain: Predictions, decoded: nn.Module, faces: Faces, export: ExportParams) -> Form:
    """Executes the ONNX twin with onnxruntime, against PyTorch with the package's weights and against the package.

    Args:
        file: The `.onnx` file.
        plain: What the plain package answered to the faces.
        decoded: The network with the package's weights.
        faces: The same as for `plain`.
        export: The section of params.yaml.

    Raises:
        PocketAffectError: The file cannot be opened, or has other inputs and outputs.
    """
    twin = load_twin(file)
    outputs = twin.predict(faces.images)
    answers = Predictions(outputs[PROBABILITIES], outputs[VALENCE_AROUSAL_OUTPUT])
    to_network = compare(answers, predict_network(decoded, faces.images))
    difference = _rounded(compare(answers, plain))
    largest = float(np.max([to_network.max_probability, to_network.max_valence_arousal]))
    checks = (
        Check("twin against PyTorch with its weights: largest difference", round(largest, _DIGITS), _SAME_WEIGHTS, "<"),
        *parity_checks("twin against the package", difference, export.max_mean_probability_difference),
        Check("twin: agreement with the package", difference.agreement, export.min_agreement, ">="),
        *convention_checks("twin: metadata", twin.metadata),
    )
    return Form("twin", file.stat().st_size, hash_file(file), difference, checks)


def _rounded(difference: Difference) -> Difference:
    values: Mapping[str, float] = vars(difference)
    return Difference(**{name: round(value, _DIGITS) for name, value in values.items()})
