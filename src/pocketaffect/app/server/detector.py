"""The page's face detector: BlazeFace's weights from MediaPipe's npm package, as an ONNX file with its decoding inside.

MediaPipe's own JavaScript runtime makes functions from strings, which the page's content-security policy forbids, and
needs WebGL. The same weights under onnxruntime-web need neither, and spare the page a second runtime of 6 MB.

Input `image`: float32 [1, 3, 128, 128], RGB, 0..255. Outputs for each of 896 anchors, in shares of the image's side:
`scores` [896], `boxes` [896, 4] (centre x, centre y, width, height) and `points` [896, 6, 2] (x and y of right eye,
left eye, nose, mouth, right ear, left ear, as the person has them).

Source: Bazarevsky et al. 2019, "BlazeFace", arXiv 1907.05047; anchors as in MediaPipe's face_detection_short_range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pocketaffect.errors import PocketAffectError

if TYPE_CHECKING:
    import onnx

SIZE: Final = 128
_OPSET: Final = 18
_GRIDS: Final = ((16, 2), (8, 6))
"""Cells a side, and anchors in each cell, of the two grids."""


def place_anchors() -> NDArray[np.float32]:
    """Computes the centres [896, 2] of the anchors, x and y, in shares of the image's side."""
    parts = []
    for cells, anchors in _GRIDS:
        centres = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        y, x = np.meshgrid(centres, centres, indexing="ij")
        parts.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), anchors, axis=0))
    return np.concatenate(parts)


def convert_detector(content: bytes) -> onnx.ModelProto:
    """Converts the bytes of `face_detection_short_range.tflite` to ONNX.

    Raises:
        PocketAffectError: The file is another network than the one this was written for.
    """
    if content[4:8] != b"TFL3":
        raise PocketAffectError("the face detector is no TFLite file", found=repr(content[4:8]))
    graph = _Graph(content)
    graph.add_network()
    graph.add_decoding()
    return graph.to_model()


class _Graph:
    """Builds the ONNX graph from the TFLite one: NHWC becomes NCHW, halves become float32."""

    def __init__(self, content: bytes) -> None:
        import tflite  # type: ignore[import-untyped]

        self._tflite = tflite
        self._file = tflite.Model.GetRootAsModel(content, 0)
        self._source: Any = self._file.Subgraphs(0)
        self._nodes: list[Any] = []
        self._weights: dict[str, NDArray[Any]] = {}
        self._known: dict[int, NDArray[Any]] = {}
        """Values of TFLite's tensors that are computed from weights alone."""

    def add_network(self) -> None:
        """Adds the network, from image to raw outputs."""
        kinds = self._tflite.BuiltinOperator
        translators = {
            kinds.DEQUANTIZE: self._add_dequantize,
            kinds.CONV_2D: self._add_conv,
            kinds.DEPTHWISE_CONV_2D: self._add_depthwise_conv,
            kinds.ADD: self._add_sum,
            kinds.RELU: self._add_relu,
            kinds.PAD: self._add_pad,
            kinds.MAX_POOL_2D: self._add_max_pool,
            kinds.RESHAPE: self._add_reshape,
            kinds.CONCATENATION: self._add_concatenation,
        }
        self._emit("Div", ["image", self._keep("half", np.float32(127.5))], "scaled")
        self._emit("Sub", ["scaled", self._keep("one", np.float32(1))], _name(self._source.Inputs(0)))
        for place in range(self._source.OperatorsLength()):
            operator = self._source.Operators(place)
            code = self._file.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
            if code not in translators:
                raise _unknown(f"operator {code}")
            inputs = [operator.Inputs(number) for number in range(operator.InputsLength())]
            translators[code](operator.BuiltinOptions(), inputs, operator.Outputs(0))

    def add_decoding(self) -> None:
        """Adds the way from raw outputs to shares of the image's side."""
        numbers = [self._source.Outputs(place) for place in range(self._source.OutputsLength())]
        found = {self._source.Tensors(number).Name().decode(): _name(number) for number in numbers}
        if set(found) != {"regressors", "classificators"}:
            raise _unknown(f"outputs {', '.join(sorted(found))}")
        anchors = place_anchors()
        self._emit("Sigmoid", [found["classificators"]], "confidences")
        self._emit("Reshape", ["confidences", self._keep("scores_shape", [len(anchors)])], "scores")
        self._emit("Div", [found["regressors"], self._keep("side", np.float32(SIZE))], "shares")
        self._emit("Reshape", ["shares", self._keep("pairs_shape", [len(anchors), 8, 2])], "offsets")
        # Each pair is an offset from the anchor's centre, but for the second: a width and a height.
        centres = np.repeat(anchors[:, None], 8, axis=1)
        centres[:, 1] = 0
        self._emit("Add", ["offsets", self._keep("centres", centres)], "pairs")
        self._emit("Split", ["pairs", self._keep("split", [2, 6])], "box_pairs", "points", axis=1)
        self._emit("Reshape", ["box_pairs", self._keep("boxes_shape", [len(anchors), 4])], "boxes")

    def to_model(self) -> onnx.ModelProto:
        from onnx import TensorProto, checker, helper, numpy_helper

        def describe(name: str, shape: list[int]) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        anchors = len(place_anchors())
        model = helper.make_model(
            helper.make_graph(
                self._nodes,
                "blazeface",
                [describe("image", [1, 3, SIZE, SIZE])],
                [describe("scores", [anchors]), describe("boxes", [anchors, 4]), describe("points", [anchors, 6, 2])],
                [numpy_helper.from_array(value, name) for name, value in self._weights.items()],
            ),
            opset_imports=[helper.make_opsetid("", _OPSET)],
            producer_name="pocketaffect",
            ir_version=10,
        )
        checker.check_model(model, full_check=True)
        return model

    def _add_dequantize(self, _options: Any, inputs: list[int], output: int) -> None:
        self._known[output] = self._value(inputs[0]).astype(np.float32)

    def _add_conv(self, table: Any, inputs: list[int], output: int) -> None:
        kernel = self._value(inputs[1]).transpose(0, 3, 1, 2)
        self._convolve(self._read(table, self._tflite.Conv2DOptions()), inputs, output, kernel, groups=1)

    def _add_depthwise_conv(self, table: Any, inputs: list[int], output: int) -> None:
        kernel = self._value(inputs[1]).transpose(3, 0, 1, 2)
        options = self._read(table, self._tflite.DepthwiseConv2DOptions())
        self._convolve(options, inputs, output, kernel, groups=len(kernel))

    def _convolve(
        self, options: Any, inputs: list[int], output: int, kernel: NDArray[np.float32], *, groups: int
    ) -> None:
        weights = [
            self._keep(f"{_name(output)}.kernel", np.ascontiguousarray(kernel)),
            self._keep(f"{_name(output)}.bias", self._value(inputs[2])),
        ]
        strides = [options.StrideH(), options.StrideW()]
        padding = self._padding(options)
        self._activate(options, "Conv", [_name(inputs[0]), *weights], output, group=groups, strides=strides, **padding)

    def _add_sum(self, table: Any, inputs: list[int], output: int) -> None:
        options = self._read(table, self._tflite.AddOptions())
        self._activate(options, "Add", [_name(number) for number in inputs], output)

    def _add_relu(self, _options: Any, inputs: list[int], output: int) -> None:
        self._emit("Relu", [_name(inputs[0])], _name(output))

    def _add_pad(self, _options: Any, inputs: list[int], output: int) -> None:
        pads = self._value(inputs[1])[[0, 3, 1, 2]].T.ravel()
        self._emit("Pad", [_name(inputs[0]), self._keep(f"{_name(output)}.pads", pads)], _name(output))

    def _add_max_pool(self, table: Any, inputs: list[int], output: int) -> None:
        options = self._read(table, self._tflite.Pool2DOptions())
        shape = {"kernel_shape": [options.FilterHeight(), options.FilterWidth()]}
        strides = {"strides": [options.StrideH(), options.StrideW()]}
        self._activate(options, "MaxPool", [_name(inputs[0])], output, **shape, **strides, **self._padding(options))

    def _add_reshape(self, _options: Any, inputs: list[int], output: int) -> None:
        shape = self._source.Tensors(output).ShapeAsNumpy()
        rows = f"{_name(output)}.rows"
        self._emit("Transpose", [_name(inputs[0])], rows, perm=[0, 2, 3, 1])
        self._emit("Reshape", [rows, self._keep(f"{_name(output)}.shape", shape)], _name(output))

    def _add_concatenation(self, _options: Any, inputs: list[int], output: int) -> None:
        self._emit("Concat", [_name(number) for number in inputs], _name(output), axis=1)

    def _activate(self, options: Any, kind: str, inputs: list[str], output: int, **attributes: Any) -> None:
        """Adds a node and what TFLite fuses into it."""
        activation = options.FusedActivationFunction()
        if activation == self._tflite.ActivationFunctionType.NONE:
            self._emit(kind, inputs, _name(output), **attributes)
        elif activation == self._tflite.ActivationFunctionType.RELU:
            self._emit(kind, inputs, f"{_name(output)}.linear", **attributes)
            self._emit("Relu", [f"{_name(output)}.linear"], _name(output))
        else:
            raise _unknown(f"activation {activation}")

    def _padding(self, options: Any) -> dict[str, str]:
        return {"auto_pad": "SAME_UPPER" if options.Padding() == self._tflite.Padding.SAME else "VALID"}

    def _read(self, table: Any, options: Any) -> Any:
        options.Init(table.Bytes, table.Pos)
        return options

    def _value(self, number: int) -> NDArray[Any]:
        """Reads a weight as it is stored, or computed from one."""
        if number in self._known:
            return self._known[number]
        tensor = self._source.Tensors(number)
        kinds = self._tflite.TensorType
        dtype = {kinds.FLOAT32: np.float32, kinds.FLOAT16: np.float16, kinds.INT32: np.int32}[tensor.Type()]
        data = self._file.Buffers(tensor.Buffer()).DataAsNumpy()
        return np.frombuffer(data.tobytes(), dtype).reshape(tensor.ShapeAsNumpy())

    def _keep(self, name: str, value: Any) -> str:
        array = np.asarray(value)
        self._weights[name] = array.astype(np.int64) if np.issubdtype(array.dtype, np.integer) else array
        return name

    def _emit(self, kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> None:
        from onnx import helper

        self._nodes.append(helper.make_node(kind, inputs, list(outputs), name=outputs[0], **attributes))


def _name(number: int) -> str:
    return f"t{number}"


def _unknown(found: str) -> PocketAffectError:
    return PocketAffectError("the face detector is not the known one", found=found)
