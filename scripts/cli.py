"""`wayhand <command> key=value …`: finds the command, runs it, and turns every failure into words and an exit code.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 70 a bug of ours, 130 interrupted, 141 broken pipe.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from ..vla.errors import ConfigError, WayhandError, did_you_mean

COMMANDS = {
    "collect": "record demonstrations of a scripted expert",
    "teleop": "record demonstrations by hand: keyboard, gamepad or the console",
    "train": "learn a policy from a dataset",
    "eval": "measure a checkpoint, with intervals and videos",
    "pretrain": "teach a vision-language backbone on rendered scenes with exact captions, or on pairs of your own",
    "serve": "answer robots and simulators with a policy, over websockets and shared memory",
    "deploy": "drive a robot, real or simulated, through the safe loop",
    "record": "record a robot that is idle, guided by hand or driven by others",
    "replay": "run a recorded run again, and say by how much commands and joints differ",
    "data": "look at, check, repair, merge, split and export datasets",
    "report": "make one page of what an output folder holds",
    "house": "make, show, check and export procedural houses",
    "score": "score a navigation submission with the original evaluators' numbers",
    "bench": "generate and run the benchmarks",
    "list": "show the environments, policies, robots, parts of backbones and commands there are",
    "calibrate": "joints and cameras of a real robot, by hand, into its file",
    "doctor": "check this machine and say how to mend it",
}

EXAMPLES = """\
Start here:
  wayhand doctor
  wayhand list envs
  wayhand collect env=tabletop/reach episodes=50 out=runs/reach
  wayhand train policy=regression data=runs/reach out=runs/reach-policy steps=1000
  wayhand eval checkpoint=runs/reach-policy env=tabletop/reach episodes=20 out=runs/reach-eval
  wayhand deploy robot=simulated checkpoint=runs/reach-policy seconds=20

`wayhand <command> --help` shows a command's examples and every option with its default.
WAYHAND_DEBUG=1 shows tracebacks.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _say("Interrupted.")
        return 130
    except BrokenPipeError:
        # The reader is gone; what is still buffered must not fail again while the interpreter shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except WayhandError as error:
        _explain(error)
        return 2 if isinstance(error, ConfigError) else 1
    except Exception as error:
        _apologise(error, arguments)
        return 70


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if arguments else 2
    name, *rest = arguments
    if name == "--version":
        from importlib.metadata import version

        print(f"wayhand {version('wayhand')}")
        return 0
    if name not in COMMANDS:
        close = did_you_mean(name, COMMANDS)
        hint = f"; did you mean '{close}'?" if close else ""
        raise ConfigError(f"Unknown command '{name}'{hint}", exists=COMMANDS, run="wayhand --help")
    module = importlib.import_module(f"{__package__}.{name}")
    if any(a in ("-h", "--help") for a in rest):
        print(command_help(name, module.HELP))
        return 0
    run: Callable[[list[str]], int] = module.main
    return run(rest)


def overview() -> str:
    """What `wayhand --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "Usage: wayhand <command> [key=value …]\n\nCommands:\n" + "\n".join(lines) + "\n\n" + EXAMPLES


def command_help(name: str, text: str) -> str:
    """A command's own words, then its primary configuration: each option with its default and comment."""
    primary = Path(__file__).parent / "conf" / f"{name}.yaml"
    if not primary.exists():
        return text.strip()
    body = primary.read_text(encoding="utf-8").strip()
    return f"{text.strip()}\n\nOptions, each set as key=value, with their defaults:\n\n{body}"


def _say(text: str, style: str = "") -> None:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text(text, style=style))


def _debugging() -> bool:
    return os.environ.get("WAYHAND_DEBUG", "") not in ("", "0")


def _explain(error: WayhandError) -> None:
    if _debugging():
        traceback.print_exception(error)
        return
    first, _, rest = str(error).partition("\n")
    _say(first, "bold red")
    if rest:
        _say(rest)


def _apologise(error: Exception, arguments: Sequence[str]) -> None:
    if _debugging():
        traceback.print_exception(error)
        return
    log = _log_file()
    with log.open("w", encoding="utf-8") as file:
        file.write(f"wayhand {' '.join(arguments)}\n\n")
        file.writelines(traceback.format_exception(error))
    _say(f"Unexpected {type(error).__name__}: {error}", "bold red")
    _say(f"  run:      the same command with WAYHAND_DEBUG=1; the traceback is in {log}")


def _log_file() -> Path:
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wayhand"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="wayhand-"))
    return folder / name


if __name__ == "__main__":
    sys.exit(main())
