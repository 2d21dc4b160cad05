"""Laws of the command line: help without loading anything, words instead of tracebacks, honest exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from wayhand.scripts import cli
from wayhand.vla.errors import ConfigError, DataError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[[list[str]], int]], None]:
    """Replaces what `wayhand doctor` does."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("WAYHAND_DEBUG", raising=False)

    def install(main: Callable[[list[str]], int]) -> None:
        module = types.SimpleNamespace(main=main, HELP="Usage: wayhand doctor")
        monkeypatch.setitem(sys.modules, "wayhand.scripts.doctor", module)  # type: ignore[arg-type]

    return install


def fail_with(error: BaseException) -> Callable[[list[str]], int]:
    def main(overrides: list[str]) -> int:
        raise error

    return main


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from wayhand.scripts.cli import main; code = main(['--help'])\n"
        "assert not {'torch', 'numpy', 'mujoco', 'hydra', 'rich'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for name in cli.COMMANDS:
        assert f"\n  {name}" in done.stdout


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "Usage: wayhand <command>" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("wayhand 0.")


def test_a_misspelt_command_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["colect"]) == 2
    assert "did you mean 'collect'" in capsys.readouterr().err


def test_the_help_of_a_command_shows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["collect", "--help"]) == 0
    out = capsys.readouterr().out
    assert "Examples:" in out
    assert "episodes: 100" in out


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError("Bad key", exists=["a"]), 2, "exists:   a"),
        (DataError("No data", run="wayhand collect"), 1, "run:      wayhand collect"),
        (ValueError("odd"), 70, "WAYHAND_DEBUG=1"),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_every_failure_becomes_words_and_a_code(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: str
) -> None:
    command(fail_with(error))
    assert cli.main(["doctor"]) == code
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_a_bug_leaves_its_traceback_in_a_file(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command(fail_with(ValueError("odd")))
    cli.main(["doctor", "a=b"])
    (log,) = (tmp_path / "wayhand").glob("*.log")
    assert str(log) in capsys.readouterr().err.replace("\n", "")
    assert "wayhand doctor a=b" in log.read_text()
    assert "ValueError: odd" in log.read_text()


def test_debugging_shows_the_traceback(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command(fail_with(DataError("No data")))
    monkeypatch.setenv("WAYHAND_DEBUG", "1")
    assert cli.main(["doctor"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_is_no_accident() -> None:
    code = "import sys; from wayhand.scripts.cli import main; sys.exit(main(['--help']))"
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
