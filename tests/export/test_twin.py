from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from uv import find_uv_bin

from pocketaffect import paths
from pocketaffect.errors import PocketAffectError
from pocketaffect.export.forms import save_twin
from pocketaffect.export.layers import fold_batchnorm, transplant_weights
from pocketaffect.export.session import load_twin
from pocketaffect.mlpackage.program import load_program
from pocketaffect.shipped.network import FOLDER

pytestmark = (
    pytest.mark.slow
)  # the exporter takes most of ten seconds to import; export's and predict's tests use it too

SIZE = 32
METADATA = {"labels": "a,b", "origin": "test"}


@pytest.fixture(scope="module")
def decoded(network, packages):
    return transplant_weights(fold_batchnorm(network), load_program(packages["int8"]))


@pytest.fixture(scope="module")
def twin_file(decoded, tmp_path_factory):
    file = tmp_path_factory.mktemp("twin") / "model.onnx"
    save_twin(decoded, SIZE, METADATA, file)
    return file


def test_onnxruntime_gives_what_pytorch_gives_with_the_packages_weights(decoded, twin_file, samples):
    predicted = load_twin(twin_file).predict(samples.images)
    with torch.no_grad():
        logits, va = decoded.eval()(torch.from_numpy(samples.images).permute(0, 3, 1, 2).float() / 255)
    np.testing.assert_allclose(predicted["probabilities"], torch.softmax(logits, dim=1).numpy(), atol=1e-5)
    np.testing.assert_allclose(predicted["valence_arousal"], va.numpy(), atol=1e-5)


def test_the_twin_agrees_with_the_executed_package(twin_file, packages, samples):
    twin, package = load_twin(twin_file).predict(samples.images), load_program(packages["int8"]).predict(samples.images)
    assert np.abs(twin["probabilities"] - package["probabilities"]).mean() < 0.003
    assert np.abs(twin["valence_arousal"] - package["valence_arousal"]).mean() < 0.006


def test_the_file_is_a_valid_model_that_tells_its_metadata_and_nothing_of_this_machine(twin_file):
    model = onnx.load(twin_file)
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (8, 18)
    assert {item.key: item.value for item in model.metadata_props}.items() >= METADATA.items()
    assert load_twin(twin_file).metadata["origin"] == "test"
    content = twin_file.read_bytes()
    for trace in (str(Path.cwd()), sys.prefix, "stack_trace", "torch/nn"):
        assert trace.encode() not in content


EXECUTE = """
import sys
import numpy as np, onnxruntime
images = np.load(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
names = ["probabilities", "valence_arousal"]
np.savez(sys.argv[3], **dict(zip(names, session.run(names, {"image": images}))))
"""


@pytest.fixture(scope="module", params=["1.15.1", "1.17.3"])
def old_python(request, tmp_path_factory):
    """The Python of a scratch environment with nothing but an old onnxruntime."""
    scratch = tmp_path_factory.mktemp("scratch")
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, "--clear", scratch], check=True, timeout=300)
    python = scratch / ("Scripts" if os.name == "nt" else "bin") / "python"
    wanted = [f"onnxruntime=={request.param}", "numpy<2"]
    done = subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", python, *wanted],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        pytest.skip(f"uv finds no onnxruntime {request.param} for this Python, or reaches no registry: {reason}")
    return python


@pytest.mark.parametrize("which", ["fresh", "shipped"])
def test_an_old_onnxruntime_gives_the_same_answers(old_python, which, twin_file, tmp_path):
    shipped = FOLDER / paths.TWIN.name
    if which == "shipped" and not shipped.is_file():
        pytest.skip("no network comes with this checkout")
    file = shipped if which == "shipped" else twin_file
    today = load_twin(file)
    faces = np.random.default_rng(5).integers(0, 256, (32, today.size, today.size, 3), np.uint8)
    np.save(tmp_path / "images.npy", np.ascontiguousarray(faces.transpose(0, 3, 1, 2).astype(np.float32)))
    files = [file, tmp_path / "images.npy", tmp_path / "answers.npz"]
    subprocess.run([old_python, "-c", EXECUTE, *files], check=True, timeout=300)
    found = np.load(tmp_path / "answers.npz")
    for name, values in today.predict(faces).items():
        assert np.ptp(values, axis=0).max() > 0.01  # else agreement would mean nothing
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5)


def test_weights_that_float16_holds_take_two_bytes(twin_file):
    weights = onnx.load(twin_file).graph.initializer
    large = {tensor.name: tensor.data_type for tensor in weights if np.prod(tensor.dims) > 2048}
    assert large
    assert set(large.values()) == {onnx.TensorProto.FLOAT16}


def test_a_batch_of_any_length_is_predicted_row_by_row(twin_file, samples):
    twin = load_twin(twin_file)
    together = twin.predict(samples.images[:5])["probabilities"]
    alone = np.concatenate([twin.predict(samples.images[row : row + 1])["probabilities"] for row in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path):
    code = """
import sys, torch
from pathlib import Path
from pocketaffect.export.layers import fold_batchnorm
from pocketaffect.export.forms import save_twin
from pocketaffect.models.network import AffectNetwork, NetworkSpec
torch.manual_seed(3)
network = AffectNetwork(NetworkSpec("vgg", 0.1, 32, "prototype")).eval()
save_twin(fold_batchnorm(network), 32, {"b": "2", "a": "1"}, Path(sys.argv[1]))
"""
    files = [tmp_path / f"{number}.onnx" for number in range(2)]
    for number, file in enumerate(files):
        environment = os.environ | {"PYTHONHASHSEED": str(number)}
        subprocess.run([sys.executable, "-c", code, str(file)], check=True, cwd=tmp_path, env=environment)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07\x12\x04"])
def test_what_is_no_onnx_model_is_refused_with_its_name(content, tmp_path):
    file = tmp_path / "broken.onnx"
    file.write_bytes(content)
    with pytest.raises(PocketAffectError, match=r"broken\.onnx: not readable as ONNX"):
        load_twin(file)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(PocketAffectError, match="no such file"):
            load_twin(path)


def test_another_onnx_model_is_refused(tmp_path):
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(PocketAffectError, match="not a pocketaffect model"):
        load_twin(tmp_path / "other.onnx")
