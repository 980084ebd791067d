"""The API under schemathesis: no answer is a 500, all are as OpenAPI describes them, and what breaks it is refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import schemathesis
from app_parts import open_services
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
)

from pocketaffect.app.music.catalogue import Catalogue
from pocketaffect.app.server.server import create_app
from pocketaffect.app.study.protocol import CONSENT_VERSION

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, negative_data_rejection]


EXAMPLES = 12
"""Calls of each operation that hold to its description, and as many that break it; half with a run's real token."""


@pytest.mark.slow
def test_no_generated_request_crashes_the_server(
    tmp_path: Path, twin: bytes, small_runtime: Path, curated: Catalogue
) -> None:
    calls = 0
    with open_services(tmp_path, twin, curated) as services:
        app = create_app(services, small_runtime, hosts=("testserver", "localhost"), rate=1e6, burst=10**6)
        schema = schemathesis.openapi.from_asgi("/api/openapi.json", app)
        token = {"": ""}

        def call(case: schemathesis.Case) -> None:
            nonlocal calls
            calls += 1
            answer = case.call(headers=token if calls % 2 else {})
            case.validate_response(answer, checks=CHECKS)

        for found, mode in itertools.product(schema.get_all_operations(), GenerationMode):
            operation = found.ok()
            if mode is GenerationMode.NEGATIVE and not {"requestBody", "parameters"} & set(operation.definition.raw):
                continue  # it takes nothing that could be wrong
            run = services.study.begin(CONSENT_VERSION)
            token = {"Authorization": f"Bearer {run.token}"}
            few = settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,  # a failure is a change's, not a draw's
                suppress_health_check=list(HealthCheck),
            )
            few(given(case=operation.as_strategy(generation_mode=mode))(call))()
    assert calls > 10 * EXAMPLES
