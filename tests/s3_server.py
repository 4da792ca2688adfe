"""An S3 server on this machine (moto's), which can refuse one request in so many, or all of them."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "sweeps"
ERROR = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"


@dataclass
class Server:
    """Refuses each ``refuses``-th request; 0: none, 1: all."""

    address: str = ""
    refuses: int = 0
    refused: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _app: Any = field(default_factory=lambda: create_backend_app("s3"))

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self.refuses and next(self._numbers) % self.refuses == 0:
            self.refused += 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [ERROR]
        return self._app(environ, start_response)

    @property
    def environment(self) -> dict[str, str]:
        """What its clients need."""
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
        return {**keys, "AWS_ENDPOINT_URL": self.address, "AWS_EC2_METADATA_DISABLED": "true"}


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving(host: str = "127.0.0.1") -> Iterator[Server]:
    """A server that has the bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    ours = Server()
    server = make_server(host, 0, ours, threaded=True, request_handler=_Quiet)
    ours.address = f"http://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        client = ours._app.test_client()
        assert client.put(f"/{BUCKET}", base_url=ours.address).status_code == 200
        yield ours
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
