"""The other files with a package's program and weights: the classifier form, and the twin in ONNX.

The classifier tells Apple's Vision the likeliest class by name, with a probability for each. The twin is for Android,
servers and browsers.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.convert import ShippedOutputs
from pocketaffect.files import write_atomically
from pocketaffect.labels import (
    EXPRESSION_OUTPUT,
    EXPRESSIONS,
    IMAGE,
    PROBABILITIES,
    PROBABILITIES_BY_NAME,
    VALENCE_AROUSAL_OUTPUT,
)
from pocketaffect.mlpackage.quiet import import_coremltools

if TYPE_CHECKING:
    import onnx

IR_VERSION: Final = 8
OPSET: Final = 18
"""The oldest that carry it, both of ONNX 1.13. The exporter itself writes a newer IR version, which onnxruntime 1.17
refuses, and uses nothing of it but metadata of nodes."""

PRODUCER: Final = "pocketaffect"


def make_classifier(model: Any) -> Any:
    """Copies a plain model of `convert`, with its description, into the classifier form.

    coremltools writes it from a float16 program only (`ClassifierConfig` beside a second output takes two conversions,
    and its compressors refuse the list of names). So the operation that it would write is appended here to the finished
    plain form, whatever its precision: same program, same weights, and no second conversion.

    `probabilities` gives way to `expression`, a string, and `expression_probabilities`, a dictionary from name to
    probability; Vision and Xcode's preview take the model for a classifier. Image and `valence_arousal` stay.

    Raises:
        PocketAffectError: The model has no probabilities to name, or names already.
    """
    spec = copy.deepcopy(model.get_spec())
    main = spec.mlProgram.functions["main"]
    block = main.block_specializations[main.opset]
    if PROBABILITIES not in block.outputs:
        raise PocketAffectError(
            "a classifier is made of a plain package",
            found=f"outputs {', '.join(block.outputs)}",
            allowed=PROBABILITIES,
        )
    _append_classify(block)
    place = list(block.outputs).index(PROBABILITIES)
    block.outputs[:] = [
        *block.outputs[:place], EXPRESSION_OUTPUT, PROBABILITIES_BY_NAME, *block.outputs[place + 1 :]
    ]  # fmt: skip
    _describe_outputs(spec.description)
    models = import_coremltools().models
    return models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)


def _append_classify(block: Any) -> None:
    """Makes the operation as coremltools 9.0 writes it."""
    from coremltools.proto import MIL_pb2

    text = MIL_pb2.DataType.STRING
    operation = block.operations.add(type="classify")
    operation.inputs[PROBABILITIES].arguments.add(name=PROBABILITIES)
    names = operation.inputs["classes"].arguments.add().value
    names.type.listType.type.tensorType.dataType = text
    names.type.listType.length.constant.size = len(EXPRESSIONS)
    for expression in EXPRESSIONS:
        value = names.immediateValue.list.values.add()
        value.type.tensorType.dataType = text
        value.immediateValue.tensor.strings.values.append(expression)
    operation.outputs.add(name=EXPRESSION_OUTPUT).type.tensorType.dataType = text
    by_name = operation.outputs.add(name=PROBABILITIES_BY_NAME).type.dictionaryType
    by_name.keyType.tensorType.dataType = text
    by_name.valueType.tensorType.dataType = MIL_pb2.DataType.FLOAT64
    own_name = operation.attributes["name"]
    own_name.type.tensorType.dataType = text
    own_name.immediateValue.tensor.strings.values.append("classify_0")


def _describe_outputs(description: Any) -> None:
    kept = [copy.deepcopy(feature) for feature in description.output if feature.name != PROBABILITIES]
    del description.output[:]
    label = description.output.add(
        name=EXPRESSION_OUTPUT, shortDescription=f"The likeliest expression: one of {', '.join(EXPRESSIONS)}."
    )
    label.type.stringType.SetInParent()
    by_name = description.output.add(
        name=PROBABILITIES_BY_NAME, shortDescription="Probability of each expression, by its name."
    )
    by_name.type.dictionaryType.stringKeyType.SetInParent()
    description.output.extend(kept)
    description.predictedFeatureName = EXPRESSION_OUTPUT
    description.predictedProbabilitiesName = PROBABILITIES_BY_NAME


def save_twin(network: nn.Module, size: int, metadata: Mapping[str, str], target: Path) -> None:
    """Writes the ONNX twin; equal weights and metadata give equal bytes.

    It takes float32 [batch, 3, size, size], RGB in 0..255, and gives `probabilities` [batch, 8] and `valence_arousal`
    [batch, 2]: what the package takes and gives, for any number of faces. A compressed weight is stored as the float16
    that the package decodes it to, and cast when the model is loaded, so that no number differs from the package's. The
    network has the package's weights (`layers.transplant_weights`), and takes images in [0, 1].

    It opens in onnxruntime 1.15 (2023) and later for Python, which tests execute, and by its format in onnxruntime-web
    and onnxruntime-android of the same versions.
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
