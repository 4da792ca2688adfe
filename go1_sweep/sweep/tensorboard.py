"""What TensorBoard shows of a sweep beside the curves that its trials write themselves: parameters, scores, a film."""
# pyright: reportAttributeAccessIssue=false
# (protobuf makes the classes of a module when it is imported)

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import imageio.v2 as imageio
from PIL import Image
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from go1_sweep.parameters import Value
from go1_sweep.paths import SweepPaths, replacing
from go1_sweep.spec import Spec
from go1_sweep.trials_table import TrialRecord
from go1_sweep.wording import title

STATE = "State"
"""Sorts before the parameters: TensorBoard shows five columns at first."""

STATUS = {
    "completed": "STATUS_SUCCESS",
    "early_stopped": "STATUS_SUCCESS",
    "infeasible": "STATUS_FAILURE",
    "failed": "STATUS_FAILURE",
    "interrupted": "STATUS_UNKNOWN",
}
"""Our state -> TensorBoard's, which has no more of them; ours is shown as a hyperparameter."""

MOST_PICTURES = 60
"""About so many of the film, evenly spread and half as wide: a GIF of 1 to 2 MB, since TensorBoard plays no video."""


def write_trial(spec: Spec, paths: SweepPaths, record: TrialRecord) -> None:
    """Show a trial that is over: its parameters, score and state, in the run that its own curves are in.

    TensorBoard keeps the first that it reads of a trial, so there is one file, which is replaced as a whole.

    Raises:
        OSError: it cannot be written.
    """
    trial, progress = paths.trial(record.trial), record.progress
    summaries = [
        _experiment(spec),
        summary_v2.hparams_pb(
            {**record.parameters, STATE: record.state},
            trial_id="",  # the run's name: an id is unique in a sweep alone
            start_time_secs=0,
        ),
        _ended(record.state),
    ]
    if progress.score is not None:
        summaries.append(scalar_pb("score", progress.score))
    trial.folder.mkdir(parents=True, exist_ok=True)
    _write(trial.hparams, progress.iterations, summaries)


def write_missing(spec: Spec, paths: SweepPaths, records: Iterable[TrialRecord]) -> None:
    """Show the trials that could not be shown when they ended.

    Raises:
        OSError: likewise.
    """
    for record in records:
        if not paths.trial(record.trial).hparams.exists():
            write_trial(spec, paths, record)


def write_winner(paths: SweepPaths, winner: TrialRecord) -> None:
    """Show the film of the winner.

    Raises:
        Exception: it cannot be read (whatever the decoder raises) or written.
    """
    gif, width, height = _animation(paths.best.video)
    image = summary_pb2.Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=gif)
    value = summary_pb2.Summary.Value(tag=f"winner: {title(winner.trial)}", image=image)
    _write(paths.winner_events, winner.progress.iterations, [summary_pb2.Summary(value=[value])])


def _experiment(spec: Spec) -> Any:
    """What is a column: all parameters, the state and the score, and none of what rsl_rl logs."""
    values: dict[str, list[Value]] = {name: [*each.distribution.extremes()] for name, each in spec.space.items()}
    for name, value in [*spec.search.fixed.items(), *(spec.baseline or {}).items()]:
        values.setdefault(name, []).append(value)
    hparams = [summary_v2.HParam(STATE, summary_v2.Discrete([*STATUS]), display_name="state")]
    hparams += [summary_v2.HParam(name, _domain(each)) for name, each in values.items()]
    stopping = spec.early_stopping
    words = f"mean of {stopping.metric} over the last {stopping.window} iterations"
    score = summary_v2.Metric("score", display_name="score", description=words)
    return summary_v2.hparams_config_pb(hparams, [score], time_created_secs=0)


def _domain(values: list[Value]) -> summary_v2.Domain | None:
    """Of all values that a parameter may have: TensorBoard hides the rows with another one."""
    kinds = {float if type(value) is int else type(value) for value in values}
    if kinds == {float}:
        numbers = [float(value) for value in values]
        return summary_v2.RealInterval(min(numbers), max(numbers))
    return summary_v2.Discrete([*dict.fromkeys(values)]) if len(kinds) == 1 else None


def _ended(state: str) -> Any:
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.Status.Value(STATUS[state]))
    words = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
    value = summary_pb2.Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=words, tensor=metadata.NULL_TENSOR)
    return summary_pb2.Summary(value=[value])


def _animation(video: Path) -> tuple[bytes, int, int]:
    """The film as an animated GIF at real speed; its width and height [pixels]."""
    with imageio.get_reader(video) as reader:
        film = reader.get_meta_data()
    fps = min(film["fps"], MOST_PICTURES / film["duration"])
    with imageio.get_reader(video, fps=fps) as reader:
        pictures = [Image.fromarray(picture).reduce(2) for picture in cast(Any, reader)]
    gif = io.BytesIO()
    pictures[0].save(gif, "GIF", save_all=True, append_images=pictures[1:], duration=1000 / fps, loop=0)
    return gif.getvalue(), pictures[0].width, pictures[0].height


def _write(path: Path, step: int, summaries: list[Any]) -> None:
    with replacing(path) as beside, open(beside, "wb") as file:
        records, now = RecordWriter(file), time.time()
        records.write(event_pb2.Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for summary in summaries:
            records.write(event_pb2.Event(wall_time=now, step=step, summary=summary).SerializeToString())
