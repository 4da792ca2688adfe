"""What Ray itself says of a file for ``ray up``."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray.autoscaler
from click import ClickException
from ray.autoscaler._private.util import prepare_config, validate_config

from go1_sweep.errors import one_line


def schema() -> dict[str, Any]:
    """The JSON schema of such a file."""
    return json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text())


def problem(config: dict[str, Any]) -> str:
    """What its checks, which begin where the schema ends, have to say of a file that fits it; empty if nothing."""
    try:
        with _silent():
            validate_config(prepare_config(copy.deepcopy(config)))
    except (ClickException, ValueError, RuntimeError, KeyError, AssertionError, NotImplementedError) as error:
        return one_line(error).partition(": ")[2] or "Ray does not take it"
    return ""


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Ray logs what it does and prints what it then raises."""
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
