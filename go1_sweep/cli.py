"""The command line. Errors become one message and an exit code; packages are imported when a command needs them."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from go1_sweep import __version__, interrupts
from go1_sweep.errors import BadInput, Interrupted, UserError, did_you_mean, one_line
from go1_sweep.paths import SweepPaths, copy_of, is_checkpoint, uri_of


class _Parser(argparse.ArgumentParser):
    """One sentence on stderr instead of argparse's usage block."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 done; 1 the work failed; 2 bad input; 3 no trial succeeded; 130 interrupted.
    """
    try:
        with interrupts.raising():
            options = _parse(list(sys.argv[1:] if arguments is None else arguments))
            options.command(options)
    except UserError as error:
        print(f"{'go1_sweep' if isinstance(error, Interrupted) else 'error'}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("go1_sweep: interrupted", file=sys.stderr)
        return Interrupted.exit_code
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains of it at its end
        return UserError.exit_code
    except OSError as error:  # no room for a temporary file, say
        print(f"error: {one_line(error)}", file=sys.stderr)
        return UserError.exit_code
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m go1_sweep", description=sys.modules["go1_sweep"].__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"go1_sweep {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    run = commands.add_parser("run", help="run a sweep", allow_abbrev=False)
    _add_spec(run)
    run.add_argument("--dry-run", action="store_true", help="check everything, say what it may cost, start nothing")
    _add_address(run)
    run.set_defaults(command=_run)

    resume = commands.add_parser("resume", help="go on with a sweep that was ended", allow_abbrev=False)
    resume.add_argument("folder", metavar="SWEEP_DIR", type=_place, help="the sweep's folder, e.g. runs/rough")
    resume.add_argument("--trials", type=_count, help="in all (default: as many as before)")
    _add_address(resume)
    _add_set(resume)
    resume.set_defaults(command=_resume)

    stop = commands.add_parser("stop", help="end a sweep that runs; it can be resumed", allow_abbrev=False)
    stop.add_argument("folder", metavar="SWEEP_DIR", type=_place, help="the sweep's folder, e.g. runs/rough")
    _add_submit(stop)
    stop.set_defaults(command=_stop)

    validate = commands.add_parser("validate", help="check a sweep file against its task", allow_abbrev=False)
    _add_spec(validate)
    validate.set_defaults(command=_validate)

    export = commands.add_parser(
        "export", help="play, film and export the best policy of a sweep, or a checkpoint", allow_abbrev=False
    )
    export.add_argument(
        "target", metavar="SWEEP_DIR|CHECKPOINT", type=_place, help="a sweep's folder or a model_<n>.pt"
    )
    export.add_argument("--out", type=Path, required=True, help="a new folder for the policy")
    export.add_argument(
        "--task", help="to play a checkpoint in (default: what it was trained on, by config.yaml beside it)"
    )
    export.add_argument("--simulator", help="likewise")
    _add_interpreter(export)
    export.add_argument("--num-envs", type=_count, help="of the exam, a multiple of 12 (default: the sweep's, or 48)")
    export.add_argument("--seeds", type=_count, help="of the exam (default: the sweep's, or 3)")
    export.add_argument("--no-video", action="store_true", help="film nothing")
    export.add_argument(
        "--verify", action="store_true", help="fail if the exported policy does not walk in plain MuJoCo as in the exam"
    )
    export.set_defaults(command=_export)

    train = commands.add_parser("train", help="train one policy, without a sweep", allow_abbrev=False)
    _add_train(train)
    train.set_defaults(command=_train)

    _add_play(commands.add_parser("play", help="play, film or watch a checkpoint", allow_abbrev=False))

    stream = commands.add_parser(
        "stream", help="let exported policies drive a Go1 live, on a web page", allow_abbrev=False
    )
    stream.add_argument(
        "policies",
        metavar="POLICY_DIR",
        nargs="+",
        type=_place,
        help="what export made, or a sweep's folder for its best; of several one can choose on the page",
    )
    stream.add_argument(
        "--host", default="127.0.0.1", help="to listen on (default: 127.0.0.1); for others the page has a token"
    )
    stream.add_argument("--port", type=_port, help="to listen on (default: a free one from 8080 on)")
    stream.set_defaults(command=_stream)

    doctor = commands.add_parser("doctor", help="show what this machine has and what is missing", allow_abbrev=False)
    doctor.add_argument("spec", metavar="SPEC", type=Path, nargs="?", help="a sweep file (default: none)")
    doctor.add_argument("--python", help="the interpreter that has the simulator (default: the sweep file's, or this)")
    doctor.add_argument("--storage", help="folder for the results (default: the sweep file's, or runs)")
    doctor.set_defaults(command=_doctor)

    status = commands.add_parser("status", help="say how a sweep is doing, or how it ended", allow_abbrev=False)
    status.add_argument("folder", metavar="SWEEP_DIR", type=_place, help="the sweep's folder, e.g. runs/rough")
    shape = status.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", dest="in_json", help="print one JSON object")
    shape.add_argument("--watch", action="store_true", help="go on showing it, until the sweep is over (or Ctrl-C)")
    _add_submit(status)
    status.set_defaults(command=_status)

    report = commands.add_parser("report", help="write a sweep's report.html again", allow_abbrev=False)
    report.add_argument("folder", metavar="SWEEP_DIR", type=_place, help="the sweep's folder, e.g. runs/rough")
    _add_submit(report)
    report.set_defaults(command=_report)

    cluster = commands.add_parser("cluster", help="check a file that starts a Ray cluster", allow_abbrev=False)
    cluster.add_argument("action", choices=("check",))
    cluster.add_argument("file", metavar="FILE", type=Path, help="e.g. cluster/aws.yaml")
    cluster.set_defaults(command=_cluster)

    known = list(commands.choices)
    if arguments and not arguments[0].startswith("-") and arguments[0] not in known:
        raise BadInput(f"unknown command '{arguments[0]}'{did_you_mean(arguments[0], known)}")
    if not arguments:
        parser.print_help()
        raise BadInput("name a command")
    options, unknown = parser.parse_known_args([_dashed(argument) for argument in arguments])
    if unknown:
        flags = re.findall(r"--[a-z][a-z-]*", commands.choices[arguments[0]].format_usage())
        typed = next(argument for argument in arguments if _dashed(argument) == unknown[0])
        hint = did_you_mean(unknown[0].partition("=")[0], flags) if typed.startswith("-") else ""
        raise BadInput(f"{arguments[0]} takes no '{typed}'{hint} (see {parser.prog} {arguments[0]} --help)")
    return options


def _add_spec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", type=Path, help="the sweep file, e.g. search_spaces/rough.yaml")
    parser.add_argument("--name", help="name of the sweep and of its folder")
    parser.add_argument("--storage", help="folder for the results (default: runs)")
    parser.add_argument("--simulator", help="the simulator, or auto (the default)")
    _add_set(parser)


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        metavar="A.B=V",
        action="append",
        default=[],
        dest="overrides",
        help="change an entry of the sweep file, e.g. search.trials=8 (may be given several times)",
    )


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", help="rough (the default), flat, or an id that the simulator has registered")
    parser.add_argument("--simulator", help="the simulator, or auto (the default)")
    _add_interpreter(parser)
    parser.add_argument("--num-envs", type=_count, help="side by side (default: 4096)")
    parser.add_argument("--max-iterations", type=_count, help="in all, resumed ones included (default: 1500)")
    parser.add_argument("--seed", type=_seed, help="of everything random (default: 42)")
    parser.add_argument("--resume", action="store_true", help="go on with the task's newest run in logs/rsl_rl")
    parser.add_argument("--checkpoint", type=_place, help="go on from this one, or from the highest in this folder")
    _add_device(parser)
    window = parser.add_mutually_exclusive_group()
    window.add_argument("--gui", action="store_true", help="show the training in the simulator's viewer; slow")
    window.add_argument("--headless", action="store_false", dest="gui", help="show nothing (the default)")
    parser.add_argument(
        "--deterministic", action=argparse.BooleanOptionalAction, help="slower, and as repeatable as torch can be"
    )
    parser.add_argument(
        "--set",
        metavar="PARAMETER=V",
        action="append",
        default=[],
        dest="overrides",
        help="a parameter of the task, e.g. entropy_coef=0.02 or agent.algorithm.gamma=0.98 (several times)",
    )


def _add_address(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--address", help="HOST:PORT of a Ray cluster, or auto: the one here (default: this machine)")
    _add_submit(where)


def _add_submit(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--submit",
        metavar="http://HOST:PORT",
        nargs="?",
        const="",
        type=_dashboard,
        help="do it on a Ray cluster, as a job: the address of its dashboard (default: RAY_API_SERVER_ADDRESS)",
    )


def _add_interpreter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--python", help="the interpreter that has the simulator, or isaaclab.sh (default: this one)")
    parser.add_argument("--physics", choices=("auto", "physx", "newton"), help="of Isaac Lab (default: auto)")


def _add_device(parser: argparse.ArgumentParser) -> None:
    device = parser.add_mutually_exclusive_group()
    device.add_argument("--device", default="auto", help="auto (the default), cpu, cuda or cuda:<n>")
    device.add_argument("--cpu", action="store_const", const="cpu", dest="device", help="the same as --device cpu")


def _add_play(play: argparse.ArgumentParser) -> None:
    play.add_argument(
        "--checkpoint", type=_place, help="a checkpoint or its folder (default: the highest of the newest run)"
    )
    play.add_argument("--task", help="rough, flat or a registered id (default: what it was trained on)")
    play.add_argument("--simulator", help="(default: what it was trained in)")
    _add_interpreter(play)
    _add_device(play)
    play.add_argument("--seed", type=_seed, help="of the envs (default: one that training did not use)")
    play.add_argument("--num-envs", type=_count, default=50, help="robots side by side (default: 50)")
    play.add_argument("--steps", type=_count, help="to play (default: an episode in each env)")
    play.add_argument("--video", action="store_true", help="film one robot as well")
    play.add_argument("--video-length", type=_count, default=500, help="steps of the film (default: 500, 10 s)")
    play.add_argument("--video-interval", type=_count, default=1, help="every n-th step is a picture (default: 1)")
    window = play.add_mutually_exclusive_group()
    window.add_argument("--gui", action="store_true", help="watch in the simulator's viewer instead, until Ctrl-C")
    window.add_argument("--headless", action="store_false", dest="gui", help="watch nothing (the default)")
    play.set_defaults(command=_play)


def _place(text: str) -> Path:
    """A folder or a file; of one in an object store where its copy is, or will be."""
    return copy_of(text) if "://" in text else Path(text)


def _brought(place: Path) -> Path:
    """A place that is up to date: of a copy, what the store has of a sweep, or of the trial of a checkpoint."""
    from go1_sweep.store import object_store, sweep_copy

    if not is_checkpoint(place.name):
        return sweep_copy.fetched(place)
    trial = place.parent
    try:
        sweep_copy.bring(SweepPaths(trial.parent.parent), trial.name)
    except OSError as error:
        raise BadInput(f"storage: {object_store.refusal(error)}") from None
    return place


def _typed(place: Path) -> str:
    """A place as the user gave it."""
    return uri_of(place) or str(place)


def _dashboard(text: str) -> str:
    """Of a cluster; as ``ray job`` does, by default what Ray's variables name."""
    named = text or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS", "")
    if not named:
        raise argparse.ArgumentTypeError("name Ray's dashboard, as http://HEAD:8265, or set RAY_API_SERVER_ADDRESS")
    if not re.fullmatch(r"https?://\S+", named):
        raise argparse.ArgumentTypeError(f"expected http://HOST:PORT of Ray's dashboard, not '{named}'")
    return named.rstrip("/")


def _seed(text: str) -> int:
    if not text.isdigit() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {2**31 - 1}, not '{text}'")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not '{text}'")
    return int(text)


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {2**16 - 1}, not '{text}'")
    return int(text)


def _dashed(argument: str) -> str:
    """``--dry_run`` is ``--dry-run``; what follows an ``=`` stays as it is."""
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value


def _load(options: argparse.Namespace):  # noqa: ANN202  (Spec, which is imported when it is needed)
    from go1_sweep import spec

    changes = {key: getattr(options, key) for key in ("name", "storage", "simulator")}
    return spec.load(options.spec, options.overrides, changes)


def _flags(options: argparse.Namespace) -> list[str]:
    """Those of the command as they were typed, but for where it runs."""
    found, typed_as = [], {"overrides": "set", "in_json": "json"}
    for name, value in vars(options).items():
        if name in ("command", "spec", "folder", "address", "submit"):
            continue
        flag = f"--{typed_as.get(name, name.replace('_', '-'))}"
        for each in value if isinstance(value, list) else [value]:
            if each is not None and each is not False:
                found.append(flag if each is True else f"{flag}={each}")
    return found


def _run(options: argparse.Namespace) -> None:
    spec = _load(options)
    if options.submit:
        from go1_sweep.spec import find
        from go1_sweep.sweep.submit import begin

        file, folder = find(options.spec), uri_of(spec.folder) or f"{spec.storage.rstrip('/')}/{spec.name}"
        return begin(options.submit, ["run", file.name, *_flags(options)], folder, file)
    from go1_sweep.sweep.run import run
    from go1_sweep.terminal import Terminal

    run(spec, Terminal(), dry_run=options.dry_run, address=options.address)


def _resume(options: argparse.Namespace) -> None:
    if options.submit:
        from go1_sweep.sweep.submit import begin

        folder = _typed(options.folder)
        return begin(options.submit, ["resume", folder, *_flags(options)], folder)
    from go1_sweep.sweep.resume import spec_of
    from go1_sweep.sweep.run import run
    from go1_sweep.terminal import Terminal

    spec = spec_of(_brought(options.folder), options.trials, options.overrides)
    run(spec, Terminal(), address=options.address)


def _stop(options: argparse.Namespace) -> None:
    if options.submit:
        return _ask(options, "stop")
    from go1_sweep.console import lasting
    from go1_sweep.stop import stop

    stop(_brought(options.folder), lasting())


def _ask(options: argparse.Namespace, command: str) -> None:
    from go1_sweep.sweep.submit import ask

    ask(options.submit, [command, *_flags(options)], _typed(options.folder))


def _validate(options: argparse.Namespace) -> None:
    from go1_sweep.sweep.preflight import check, with_simulator
    from go1_sweep.terminal import Terminal
    from go1_sweep.tracking import follower

    spec = with_simulator(_load(options))
    warnings = follower.warnings(spec)
    preflight = check(spec)
    for warning in [*preflight.warnings, *warnings]:
        Terminal().warn(warning)
    print(f"{options.spec}: fine ({preflight.task_id} on {spec.simulator})")


def _export(options: argparse.Namespace) -> None:
    from go1_sweep.sweep.export import Wanted, export
    from go1_sweep.terminal import Terminal

    wanted = Wanted(
        task=options.task,
        simulator=options.simulator,
        num_envs=options.num_envs,
        seeds=options.seeds,
        video=not options.no_video,
        python=options.python,
        physics=options.physics,
        verify=options.verify,
    )
    export(_brought(options.target), options.out, wanted, Terminal())


def _train(options: argparse.Namespace) -> None:
    from go1_sweep.console import lasting
    from go1_sweep.parameters import parsed
    from go1_sweep.single_run.train import train
    from go1_sweep.single_run.train_plan import Wanted

    wanted = Wanted(
        task=options.task,
        simulator=options.simulator,
        python=options.python,
        physics=options.physics,
        num_envs=options.num_envs,
        max_iterations=options.max_iterations,
        seed=options.seed,
        resume=options.resume,
        checkpoint=options.checkpoint and _brought(options.checkpoint),
        device=options.device,
        deterministic=options.deterministic,
        gui=options.gui,
        parameters=dict(parsed(each) for each in options.overrides),
    )
    train(wanted, lasting())


def _play(options: argparse.Namespace) -> None:
    from go1_sweep.single_run.play import Wanted, play
    from go1_sweep.terminal import Terminal

    wanted = {name: value for name, value in vars(options).items() if name != "command"}
    wanted["checkpoint"] = options.checkpoint and _brought(options.checkpoint)
    play(Wanted(**wanted), Terminal())


def _stream(options: argparse.Namespace) -> None:
    try:
        from go1_sweep.deploy.stream import stream
        from go1_sweep.terminal import Terminal

        stream([_brought(each) for each in options.policies], options.host, options.port, Terminal())
    except ModuleNotFoundError as error:
        raise BadInput(f"stream needs the package {error.name}: pip install 'go1_sweep[mjlab]'") from None


def _doctor(options: argparse.Namespace) -> None:
    from go1_sweep import doctor, spec

    doctor.examine(spec.load(options.spec) if options.spec else None, options.python, options.storage)


def _status(options: argparse.Namespace) -> None:
    if options.submit:
        return _ask(options, "status")
    from go1_sweep import status

    if options.watch:
        status.watch(_brought(options.folder))
    else:
        status.show(_brought(options.folder), in_json=options.in_json)


def _report(options: argparse.Namespace) -> None:
    if options.submit:
        from go1_sweep.sweep.submit import fetch_report

        return fetch_report(options.submit, _typed(options.folder))
    from go1_sweep.paths import shown_here
    from go1_sweep.report.page import write

    print(shown_here(write(_brought(options.folder))))


def _cluster(options: argparse.Namespace) -> None:
    from go1_sweep.cluster_files.check import check

    check(options.file)
