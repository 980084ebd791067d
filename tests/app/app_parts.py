"""A small network in ONNX, services on real stores, and a server for real browsers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pocketaffect.app.music.catalogue import Catalogue
from pocketaffect.app.music.listeners import Listeners
from pocketaffect.app.music.recommend import Recommender
from pocketaffect.app.server.api import Services
from pocketaffect.app.server.model import describe_model
from pocketaffect.app.server.server import LOCAL_HOSTS, create_app
from pocketaffect.app.study.store import StudyStore
from pocketaffect.labels import EXPRESSIONS

ROOT = Path(__file__).parents[2]
SIZE = 32
METADATA = {
    "labels": ",".join(EXPRESSIONS),
    "input_color_order": "RGB",
    "input_size": str(SIZE),
    "crop_margin": "0.1",
    "valence_arousal_order": "valence,arousal",
    "precision": "fp32",
}


def make_twin(**changes: str) -> bytes:
    """A network that looks at every pixel of its input, with the outputs and metadata of a real twin."""
    random = np.random.default_rng(0)
    weights = {
        "kernel": random.normal(0, 0.02, (16, 3, 4, 4)).astype(np.float32),
        "logits_weight": random.normal(0, 0.4, (16 * (SIZE // 4) ** 2, len(EXPRESSIONS))).astype(np.float32) * 0.02,
        "va_weight": random.normal(0, 0.4, (16 * (SIZE // 4) ** 2, 2)).astype(np.float32) * 0.004,
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["cells"], strides=[4, 4]),
        helper.make_node("Flatten", ["cells"], ["flat"]),
        helper.make_node("MatMul", ["flat", "logits_weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
        helper.make_node("MatMul", ["flat", "va_weight"], ["va"]),
        helper.make_node("Tanh", ["va"], ["valence_arousal"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(EXPRESSIONS)]),
            helper.make_tensor_value_info("valence_arousal", TensorProto.FLOAT, ["batch", 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    for key, value in (METADATA | changes).items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


@contextmanager
def open_services(folder: Path, twin: bytes, catalogue: Catalogue) -> Iterator[Services]:
    model = describe_model(twin, name="tiny.onnx", commit=None, verified="this test")
    listeners, study = Listeners(folder / "listeners.db"), StudyStore(folder / "study.db")
    try:
        recommender = Recommender(catalogue, listeners)
        yield Services(model, recommender, catalogue, listeners, study, retention_days=30)
    finally:
        study.close()
        listeners.close()


@contextmanager
def serving(services: Services, runtime: Path) -> Iterator[str]:
    """A real server on a free port, and its address."""
    import uvicorn

    app = create_app(services, runtime, hosts=LOCAL_HOSTS, rate=1e6, burst=10**6)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", server_header=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=10)


AFFECT = {"probabilities": [0.1, 0.6, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05], "valence": 0.6, "arousal": 0.2}
