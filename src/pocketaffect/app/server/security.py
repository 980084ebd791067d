"""What stands before every request: who may ask, how much, how often, and what the browser may do with the answer."""

import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY: Final = 64 * 1024
"""Bytes of a request's body. The longest honest one, a wish for songs with 200 ratings kept on the device, has 50,000;
a picture hardly fits."""

_TOO_LONG: Final = (413, "body too long", f"at most {MAX_BODY} bytes")

CONTENT_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

HEADERS: Final = {
    "content-security-policy": CONTENT_POLICY,
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """ASGI middleware: refuses foreign hosts and origins, long bodies and floods; sets the headers.

    The host check is what keeps another site from reaching a local server by a name that it points at 127.0.0.1.
    To /api a client may make `rate` requests a second in the mean, `burst` at once.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], rate: float, burst: int) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._buckets = Buckets(rate, burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refuse(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api"):
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            await (refusal or self._app)(scope, _limited(receive), send_with_headers)
        except _BodyTooLongError:
            await _problem(*_TOO_LONG)(scope, receive, send_with_headers)

    def _refuse(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if _host_name(f"//{headers.get('host', '')}") not in self._hosts:
            return _problem(421, "unknown host", "start the server with --allow-host NAME to serve this name")
        origin = headers.get("origin")
        same = origin is None or origin.lower() == f"{scope['scheme']}://{headers['host'].lower()}"
        if not same or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return _problem(403, "request from another site", "open the page itself")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            return _problem(*_TOO_LONG)
        if scope["path"].startswith("/api"):
            wait = self._buckets.take((scope.get("client") or ("",))[0], time.monotonic())
            if wait > 0:
                return _problem(429, "too many requests", "wait a moment", {"retry-after": str(int(wait) + 1)})
        return None


@dataclass
class Buckets:
    """Token buckets, one for each client."""

    rate: float
    burst: int
    most_clients: int = 10_000
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, client: str, now: float) -> float:
        """Takes a token; answers 0, or the seconds until there is one."""
        left, then = self._left.pop(client, (float(self.burst), now))
        left = min(float(self.burst), left + (now - then) * self.rate)
        granted = left >= 1
        self._left[client] = (left - 1 if granted else left, now)
        while len(self._left) > self.most_clients:
            self._left.popitem(last=False)
        return 0.0 if granted else (1 - left) / self.rate


class _BodyTooLongError(Exception):
    pass


def _limited(receive: Receive) -> Receive:
    """Counts what arrives: a chunked body names no length."""
    total = 0

    async def receive_limited() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MAX_BODY:
            raise _BodyTooLongError
        return message

    return receive_limited


def _host_name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _problem(status: int, problem: str, todo: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"problem": problem, "todo": todo}, status, headers)
