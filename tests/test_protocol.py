from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from go1_sweep import protocol
from go1_sweep.protocol import Progress, ProtocolError, decode, encode

SETTING = {"gamma": 0.99, "num_envs": 64, "schedule": "fixed", "env.x": True}
POLICY = protocol.Policy("/runs/model_3.pt", "flat", SETTING)
EXAMPLES = [
    protocol.Hello(1, {"torch": "2.9"}, "cpu", 20),
    protocol.Check("flat", [SETTING, {}]),
    protocol.Checked("Mjlab-Velocity-Flat", "go1_velocity", "", ["", "no such entry"], {"gamma": 0.99}),
    protocol.Train("0001", "/runs/ä", "flat", SETTING, 7, "iterations", 10.0, [1.0, 3], "mean_reward", 20),
    protocol.Started("0001", [], 10**9),
    protocol.Continue("0001"),
    protocol.Stop("0001", True),
    protocol.Report("0001", Progress(1, 96, 0.5, None), {"iteration": 1, "kl": 0.01}, [1, 2], {"building": 4.5}),
    protocol.Waiting("0001"),
    protocol.Ended("0001", "failed", "killed by\nsignal 9 \u2028", Progress(3, 288, 1.5, -2.25)),
    protocol.Evaluate(POLICY, 48, 7, 0, "/runs/trajectories.npz", exam_seconds=10.0),
    protocol.Evaluated(
        "Mjlab-Velocity-Flat",
        {"mjlab": "1.6.0"},
        1000,
        0.02,
        [protocol.Episode(21.5, 1000, 0.25, 0.5, 0.5, 0.25, 2.0, fell=False, cut_off=True, env=3)],
    ),
    protocol.Film(POLICY, 7, 500, 2, "/runs/best/video.mp4"),
    protocol.Export(POLICY, "/runs/best", {"sweep": "flat", "trial": "0003"}, {"score": 0.9}),
    protocol.View(POLICY, 50, 7, 0, "window"),
    protocol.Working(20, 1000),
    protocol.Viewing("http://127.0.0.1:8080"),
    protocol.Finished(),
    protocol.Refused("model_3.pt is no checkpoint", True),
    protocol.Inspect("model_1.pt"),
    protocol.Inspected(Progress(1, 96, 0.5, None), "is no checkpoint"),
]
REPORT = json.loads(encode(EXAMPLES[7]))


def test_the_examples_cover_all_messages():
    assert {type(message) for message in EXAMPLES} == set(typing.get_args(protocol.Message))


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_is_one_line_and_comes_back_equal(message):
    line = encode(message)
    assert line.endswith(b"\n")
    assert len(line.splitlines()) == 1
    assert decode(line) == message


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PARAMETERS = st.dictionaries(st.text(), st.booleans() | st.integers() | NUMBERS | st.text())
PROGRESS = st.builds(Progress, st.integers(), st.integers(), NUMBERS, st.none() | NUMBERS)
EPISODE = st.builds(
    protocol.Episode, NUMBERS, st.integers(), *[NUMBERS] * 5, st.booleans(), st.booleans(), st.integers()
)
STRATEGIES = {
    "int": st.integers(),
    "int | None": st.none() | st.integers(),
    "bool": st.booleans(),
    "str": st.text(),
    "float": NUMBERS,
    "list[float]": st.lists(NUMBERS),
    "list[int]": st.lists(st.integers()),
    "list[str]": st.lists(st.text()),
    "dict[str, float]": st.dictionaries(st.text(), NUMBERS),
    "dict[str, str]": st.dictionaries(st.text(), st.text()),
    "dict[str, bool | int | float | str]": PARAMETERS,
    "list[dict[str, bool | int | float | str]]": st.lists(PARAMETERS, max_size=3),
    "Progress": PROGRESS,
    "Policy": st.builds(protocol.Policy, st.text(), st.text(), PARAMETERS),
    "list[Episode]": st.lists(EPISODE, max_size=3),
}


def any_message() -> st.SearchStrategy:
    def one(cls: type) -> st.SearchStrategy:
        return st.builds(cls, *(STRATEGIES[str(field.type)] for field in dataclasses.fields(cls)))

    return st.sampled_from(typing.get_args(protocol.Message)).flatmap(one)


@settings(max_examples=200, deadline=None)
@given(any_message())
def test_any_message_comes_back_equal(message):
    assert decode(encode(message)) == message


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_not_sent(number):
    for message in [
        protocol.Report("0001", Progress(score=number), {}, [], {}),
        dataclasses.replace(EXAMPLES[3], parameters={"gamma": number}),
        dataclasses.replace(EXAMPLES[3], checkpoints_at=[number]),
    ]:
        with pytest.raises(ValueError, match="not JSON compliant"):
            encode(message)


def test_whole_numbers_pass_as_floats():
    line = encode(protocol.Report("0001", Progress(train_seconds=3, score=2), {}, [], {}))
    assert decode(line) == protocol.Report("0001", Progress(train_seconds=3.0, score=2.0), {}, [], {})


def progress(**changes) -> bytes:
    return json.dumps({**REPORT, "progress": {**REPORT["progress"], **changes}}).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"3",
        b"null",
        b'"Stop"',
        b'["Stop"]',
        b"{}",
        b"Segmentation fault",
        b'{"type": "Stop", "trial": "0001"',
        b'{"type": "Stop", "trial": "0001"} {}',
        b'{"type": "Stop"}',
        b'{"type": "Stop", "trial": "0001", "now": true}',
        b'{"type": "Stop", "trial": null}',
        b'{"type": "Stop", "trial": 1}',
        b'{"type": "Started", "trial": ["0001"]}',
        b'{"type": "Progress", "iterations": 1, "env_steps": 1, "train_seconds": 1, "score": 1}',
        b'{"type": "stop", "trial": "0001"}',
        b'{"type": ["Stop"], "trial": "0001"}',
        b'{"type": null}',
        b'{"type": "Hello", "version": 1, "versions": {"torch": 2}}',
        b'{"type": "Hello", "version": 1, "versions": []}',
        b'{"type": "Hello", "version": 1.0, "versions": {}}',
        b'{"type": "Check", "task": "flat", "settings": [[]]}',
        b'{"type": "Check", "task": "flat", "settings": [{"gamma": null}]}',
        b'{"type": "Check", "task": "flat", "settings": [{"gamma": [1]}]}',
        b'{"type": "Check", "task": "flat", "settings": [{"gamma": NaN}]}',
        b'{"type": "Checked", "task_id": "", "error": "", "errors": [null]}',
        b'{"type": "Report", "trial": "0001", "progress": []}',
        b'{"type": "Report", "trial": "0001", "progress": {}}',
        progress(iterations=True),
        progress(iterations=1.0),
        progress(env_steps="96"),
        progress(train_seconds=None),
        progress(train_seconds=10**400),
        progress(score=math.nan),
        progress(score=math.inf),
        progress(score="1"),
        progress(score=2.5).replace(b"2.5", b"1e999"),
        progress(iterations=123).replace(b"123", b"1" * 5000),
        b"[" * 100_000,
        b"\xff\xfe\x00",
        b'{"type": "Stop", "trial": "\xff"}',
    ],
)
def test_what_is_no_message_is_refused_in_a_short_sentence(line):
    with pytest.raises(ProtocolError, match=r"^not a message: ") as caught:
        decode(line)
    assert len(str(caught.value)) < 1000


def decoded_or_refused(line: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        message = decode(line)
        assert decode(encode(message)) == message


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_do_no_harm(line):
    decoded_or_refused(line)


PIECES = st.sampled_from([b"NaN", b"null", b"true", b"1e999", b"-1", b"[]", b"{}", b'"', b"}", b",", b"\n", b"\0"])


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(EXAMPLES),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 6), PIECES | st.binary(max_size=4)), min_size=1, max_size=3),
)
def test_damaged_lines_do_no_harm(message, damages):
    line = encode(message)
    for start, length, piece in damages:
        line = line[:start] + piece + line[start + length :]
    decoded_or_refused(line)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(EXAMPLES), st.data())
def test_odd_values_in_a_message_do_no_harm(message, data):
    body = json.loads(encode(message))
    owner = body["progress"] if "progress" in body and data.draw(st.booleans()) else body
    owner[data.draw(st.sampled_from(list(owner)))] = data.draw(ODD)
    decoded_or_refused(json.dumps(body).encode())
