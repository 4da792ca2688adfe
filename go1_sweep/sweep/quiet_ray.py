"""Starts or joins a Ray that leaves the terminal and the signals to us."""

from __future__ import annotations

import logging
import signal
from typing import Any

import ray
from ray._private import worker
from ray.air._internal import usage


def init(**arguments: Any) -> Any:
    """What ``ray.init`` returns.

    Raises:
        KeyboardInterrupt: Ctrl-C, or SIGTERM, meanwhile.
        Exception: of Ray's.
    """
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        context = ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **arguments)
    except SystemExit:  # by Ray's own handler of SIGTERM
        raise KeyboardInterrupt from None
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put in one of its own
    # What Ray and Tune log of a lost actor names things that are in none of our files; we say it ourselves.
    worker.print_to_stdstream = _unsaid  # of nodes that are gone, with the stack traces of their raylets
    usage.tag_callbacks = _unsaid  # Tune would import wandb to count our callbacks for its makers
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return context


def _unsaid(*_: object, **__: object) -> None:
    pass
