"""As much of a W&B server as its client needs to upload runs, and one that takes connections and never answers."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Uploaded:
    """A run as the server has it."""

    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    group: str = ""
    tags: list[str] = field(default_factory=list)
    is_over: bool = False


class Server(ThreadingHTTPServer):
    """Keeps what is uploaded."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, Uploaded] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.uses: list[tuple[str, str]] = []
        self.is_silent = False
        self._is_over = threading.Event()

    def end(self) -> None:
        """Let go of who waits for an answer."""
        self._is_over.set()
        self.shutdown()

    def wait_if_silent(self) -> None:
        if self.is_silent:
            self._is_over.wait()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """W&B's client resets connections that it needs no more."""

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
                project = {"id": "p", "name": given["project"], "entity": ME}
                bucket = {"id": given["name"], "name": given["name"], "displayName": given["displayName"]}
                return {"upsertBucket": {"bucket": {**bucket, "config": "{}", "project": project}, "inserted": True}}
            case "CreateRunFiles":
                files = [{"name": name, "uploadUrl": f"{self.address}/{name}"} for name in given["files"]]
                return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
            case "ArtifactType":
                return {"project": None}
            case "CreateArtifact":
                self.artifacts.append(given["input"])
                made = {"id": str(len(self.artifacts) - 1), "state": "COMMITTED", "artifactSequence": {"id": "s"}}
                return {"createArtifact": {"artifact": made}}
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
            run.history[history["offset"] :] = [json.loads(line) for line in history["content"]]
        for line in files.get("wandb-summary.json", {}).get("content", []):
            run.summary |= json.loads(line)
        run.is_over = bool(content.get("complete"))

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
        lines = {"historyLineCount": len(run.history), "eventsLineCount": 0, "logLineCount": 0}
        tails = {"historyTail": json.dumps([json.dumps(each) for each in run.history[-1:]]), "eventsTail": "[]"}
        names = {"id": given["name"], "name": given["name"], "displayName": given["name"], "tags": run.tags}
        return {**names, **lines, **tails, "summaryMetrics": "{}", "config": "{}", "wandbConfig": '{"t": 1}'}


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
            self._reply({"data": self.server.answer(operation[1], content.get("variables") or {})})
        else:
            run = re.search(r"/([^/]+)/file_stream$", self.path)
            assert run, self.path
            self.server.stream(self.server.runs[run[1]], content)
            self._reply({"limits": {}})

    def do_PUT(self) -> None:
        self._body()
        self._reply({})

    def _body(self) -> bytes:
        self.server.wait_if_silent()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server that runs."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.end()
            thread.join()


@contextlib.contextmanager
def hanging() -> Iterator[str]:
    """The address of a server that takes every connection, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
