"""As much of a W&B server as its client needs to upload runs, and one that takes connections and never answers."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote


@dataclass
class Uploaded:
    """A run as the server has it.

    Attributes:
        lines: of its history that came. ``wandb sync`` sends a file whole, after the lines that are there: rows that
            the server has come again, as lines of their own.
        rows: of its history by step, which is what W&B tells them by.
        changed: steps whose row came again and was another one.
        summary: as it came last: the client sends all that it knows of.
    """

    lines: int = 0
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    changed: list[int] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: str = "{}"
    group: str = ""
    tags: list[str] = field(default_factory=list)
    is_over: bool = False

    @property
    def history(self) -> list[dict[str, Any]]:
        return [self.rows[step] for step in sorted(self.rows)]

    def take(self, offset: int, lines: list[str]) -> None:
        """Take lines of its history."""
        self.lines = max(self.lines, offset + len(lines))
        for line in lines:
            row = json.loads(line)
            if _metrics(self.rows.setdefault(row["_step"], row)) != _metrics(row):
                self.changed.append(row["_step"])


def _metrics(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("_")}


class Server(ThreadingHTTPServer):
    """Keeps what is uploaded.

    Attributes:
        artifacts: as they were made; the place in the list is the id.
        uses: of an artifact, by a run.
        files: by the run, or the id of the artifact, and the name in it.
        delay: seconds that it thinks about each request.
        is_silent: it takes requests, and does not answer.
        failing: says of an operation (W&B's name of it, ``stream`` or ``upload``) and what it is about how it fails: by
            an HTTP status, or by an error of GraphQL's.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, Uploaded] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.uses: list[tuple[str, str]] = []
        self.files: dict[str, bytes] = {}
        self.delay = 0.0
        self.is_silent = False
        self.failing: Callable[[str, dict[str, Any]], int | str | None] = lambda operation, given: None
        self._is_over = threading.Event()

    def start(self) -> None:
        """Listen, again after ``stop``."""
        if not self.is_listening:
            self.socket = socket.socket(self.address_family, self.socket_type)
            self.server_bind()
            self.server_activate()
        self._thread = threading.Thread(target=self.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections, those that there are too."""
        self.shutdown()
        self.server_close()
        self._thread.join()

    def end(self) -> None:
        """Stop, and let go of who waits for an answer."""
        self._is_over.set()
        self.stop()

    @property
    def is_listening(self) -> bool:
        return self.socket.fileno() >= 0

    def wait(self) -> None:
        """Before an answer."""
        self._is_over.wait(None if self.is_silent else self.delay)
        if not self.is_listening:
            raise ConnectionAbortedError

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # W&B's client resets those that it needs no more
            super().handle_error(request, client_address)

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL query; none for those that W&B's client does without."""
        match operation:
            case "Viewer":
                return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
            case "RunResumeStatus":
                return {"model": {"id": "m", "name": given["project"], "entity": ME, "bucket": self._bucket(given)}}
            case "UpsertBucket":
                run = self.runs.setdefault(given["name"], Uploaded())
                run.group = given["groupName"] or run.group
                run.tags = given["tags"] or run.tags
                run.config = given["config"] or run.config
                project = {"id": "p", "name": given["project"], "entity": ME}
                bucket = {"id": given["name"], "name": given["name"], "displayName": given["displayName"]}
                bucket |= {"config": run.config, "project": project, "historyLineCount": run.lines}
                return {"upsertBucket": {"bucket": bucket, "inserted": True}}
            case "CreateRunFiles":
                files = [{"name": name, **self._place(f"{given['run']}/{name}")} for name in given["files"]]
                return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
            case "ArtifactType":
                return {"project": None}
            case "CreateArtifact":
                self.artifacts.append(given["input"])
                made = {"id": str(len(self.artifacts) - 1), "state": "PENDING", "artifactSequence": {"id": "s"}}
                return {"createArtifact": {"artifact": made}}
            case "CreateArtifactFiles":
                nodes = [
                    {**self._place(f"{each['artifactID']}/{each['name']}"), "artifact": {"id": each["artifactID"]}}
                    for each in given["input"]["artifactFiles"]
                ]
                return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
            case "CreateArtifactManifest" | "UpdateArtifactManifest":
                manifest = {"id": "m", "file": {"id": "f", **self._place("manifest")}}
                return {operation[0].lower() + operation[1:]: {"artifactManifest": manifest}}
            case "CommitArtifact":
                return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": ""}}}
            case "ArtifactByID":
                return {"artifact": self._artifact(int(given["id"]))}
            case "UseArtifact":
                self.uses.append((given["runName"], self.artifacts[int(given["artifactID"])]["artifactCollectionName"]))
                return {"useArtifact": {"artifact": {"id": given["artifactID"]}}}
        return {}

    def stream(self, run: Uploaded, content: dict[str, Any]) -> None:
        """Take lines of a run's files, each file from its offset on."""
        files = content.get("files", {})
        if history := files.get("wandb-history.jsonl"):
            run.take(history["offset"], history["content"])
        for line in files.get("wandb-summary.json", {}).get("content", []):
            run.summary = json.loads(line)
        run.is_over = bool(content.get("complete"))

    def _place(self, name: str) -> dict[str, Any]:
        return {"uploadUrl": f"{self.address}/{quote(name)}", "uploadHeaders": []}

    def _artifact(self, place: int) -> dict[str, Any]:
        given = self.artifacts[place]
        names = {"name": given["artifactCollectionName"], "project": PROJECT}
        absent = ("description", "metadata", "historyStep", "commitHash", "updatedAt")
        return {
            **dict.fromkeys(absent),
            "id": str(place),
            "artifactSequence": {"__typename": "ArtifactSequence", "id": "s", **names},
            "artifactType": {"name": given["artifactTypeName"]},
            "versionIndex": 0,
            "ttlDurationSeconds": 0,
            "ttlIsInherited": False,
            "tags": [],
            "aliases": [],
            "state": "COMMITTED",
            "size": 1,
            "fileCount": 1,
            "digest": given["digest"],
            "createdAt": "2026-01-01T00:00:00Z",
        }

    def _bucket(self, given: dict[str, Any]) -> dict[str, Any] | None:
        if (run := self.runs.get(given["name"])) is None:
            return None
        lines = {"historyLineCount": run.lines, "eventsLineCount": 0, "logLineCount": 0}
        tails = {"historyTail": json.dumps([json.dumps(each) for each in run.history[-1:]]), "eventsTail": "[]"}
        names = {"id": given["name"], "name": given["name"], "displayName": given["name"], "tags": run.tags}
        kept = {"summaryMetrics": json.dumps(run.summary), "config": run.config, "wandbConfig": '{"t": 1}'}
        return {**names, **lines, **tails, **kept}


ME = {"id": "e", "name": "me"}
PROJECT = {"id": "UHJvamVjdDox", "internalId": "UHJvamVjdEludGVybmFsSWQ6MQ==", "name": "go1-tests", "entity": ME}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        content = json.loads(self._body() or b"{}")
        if self.path.endswith("/graphql"):
            operation = re.search(r"(?:query|mutation)\s+(\w+)", content["query"])
            assert operation, content
            given = content.get("variables") or {}
            if not self._has_failed(operation[1], given):
                self._reply({"data": self.server.answer(operation[1], given)})
        else:
            run = re.search(r"/([^/]+)/file_stream$", self.path)
            assert run, self.path
            if not self._has_failed("stream", {"name": run[1]}):
                self.server.stream(self.server.runs[run[1]], content)
                self._reply({"limits": {}})

    def do_PUT(self) -> None:
        content, name = self._body(), unquote(self.path[1:])
        if not self._has_failed("upload", {"name": name}):
            self.server.files[name] = content
            self._reply({})

    def _body(self) -> bytes:
        self.server.wait()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _has_failed(self, operation: str, given: dict[str, Any]) -> bool:
        match self.server.failing(operation, given):
            case None:
                return False
            case str(message):
                self._reply({"errors": [{"message": message}], "data": None})
            case int(status):
                self._reply({"error": "it fails"}, status)
        return True

    def _reply(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server that runs."""
    server = Server()
    server.start()
    try:
        yield server
    finally:
        server.end()


@contextlib.contextmanager
def hanging() -> Iterator[str]:
    """The address of a server that takes every connection, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
