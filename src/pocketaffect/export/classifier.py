"""The classifier form of a package: the likeliest class by name, a probability for each name, valence-arousal.

coremltools writes it from a float16 program only (`ClassifierConfig` beside a second output takes two conversions, and
its compressors refuse the list of names). So the operation that it would write is appended here to the finished plain
form, whatever its precision: same program, same weights, and no second conversion.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from pocketaffect.config import ExportParams
from pocketaffect.errors import PocketAffectError
from pocketaffect.export.measure import Faces, Predictions, arrange, compare, load_affect_program
from pocketaffect.export.verdict import Check, Form, convention_checks
from pocketaffect.labels import EXPRESSION_OUTPUT, EXPRESSIONS, PROBABILITIES, PROBABILITIES_BY_NAME
from pocketaffect.mlpackage.package import package_bytes, package_digest
from pocketaffect.mlpackage.quiet import import_coremltools


def make_classifier(model: Any) -> Any:
    """Copies a plain model of `convert` into the classifier form.

    `probabilities` gives way to `expression`, a string, and `expression_probabilities`, a dictionary from name to
    probability; Vision and Xcode's preview take the model for a classifier. Image and `valence_arousal` stay.

    Args:
        model: A `coremltools.models.MLModel` with its description; it stays as it is.

    Raises:
        PocketAffectError: The model has no probabilities to name, or names already.
    """
    spec = copy.deepcopy(model.get_spec())
    block = _main_block(spec)
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


def _main_block(spec: Any) -> Any:
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


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


def verify_classifier(path: Path, plain: Predictions, faces: Faces, export: ExportParams) -> Form:
    """Executes the classifier form, which must answer exactly as the plain one does, under the right names.

    Args:
        path: The classifier's package.
        plain: What the plain package answered to the faces.
        faces: The same.
        export: The section of params.yaml.

    Raises:
        PocketAffectError: A package that cannot be read or executed, or whose outputs are others.
    """
    program = load_affect_program(path)
    outputs = program.predict(faces.images)
    answers = arrange(outputs, program.classes)
    labels = outputs.get(EXPRESSION_OUTPUT)
    likeliest = np.array(EXPRESSIONS)[plain.probabilities.argmax(axis=1)]
    wrong = len(likeliest) if labels is None else int((labels != likeliest).sum())
    difference = compare(answers, plain)
    size = package_bytes(path)
    checks = (
        Check("classifier: class names", ",".join(program.classes), ",".join(EXPRESSIONS), "=="),
        Check("classifier: output that Vision reads", program.label, EXPRESSION_OUTPUT, "=="),
        Check("classifier: faces with another label", float(wrong), 0.0, "=="),
        Check("classifier: largest probability difference", difference.max_probability, 0.0, "=="),
        Check("classifier: largest valence-arousal difference", difference.max_valence_arousal, 0.0, "=="),
        Check("classifier: bytes of the package", float(size), float(export.budget_bytes), "<="),
        *convention_checks("classifier: metadata", program.metadata),
    )
    return Form("classifier", size, package_digest(path), difference, checks)
