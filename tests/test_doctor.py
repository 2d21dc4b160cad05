"""Laws of `wayhand doctor` and `wayhand list`."""

from __future__ import annotations

from pathlib import Path

import pytest

from wayhand.scripts import doctor
from wayhand.scripts import list as listing
from wayhand.scripts.cli import COMMANDS
from wayhand.scripts.doctor import Finding
from wayhand.vla.config import options
from wayhand.vla.errors import ConfigError


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_only_failures_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: str, code: int
) -> None:
    finding = Finding("thing", status, "detail", "mend it")  # type: ignore[arg-type]
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([finding]),))
    assert doctor.main([]) == code
    assert "run: mend it" in capsys.readouterr().out


@pytest.mark.parametrize("check", doctor.CHECKS, ids=lambda c: c.__name__)
def test_whatever_is_not_well_comes_with_a_command(check: object) -> None:
    for finding in check():  # type: ignore[operator]
        assert finding.detail
        assert finding.status == "ok" or finding.mend or finding.name in ("processor", "memory")


def test_a_probe_that_fails_gives_its_last_line() -> None:
    assert doctor._probe("raise OSError('no such library')", {}) == ("", "OSError: no such library")


def test_no_renderer_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_probe", lambda code, env: ("", "cannot load"))
    findings = list(doctor.check_rendering())
    assert [f.status for f in findings] == ["warn", "warn", "fail"]
    assert "libosmesa6" in findings[-1].mend


def test_lists_name_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.main([]) == 0
    out = capsys.readouterr().out
    for group in listing.GROUPS.values():
        for option in options(listing.CONF, group):
            assert f"{group}={option}" in out
    for name in COMMANDS:
        assert f"wayhand {name}" in out


def test_an_unknown_list_is_guessed() -> None:
    with pytest.raises(ConfigError, match="did you mean 'envs'"):
        listing.main(["env"])


def test_a_description_is_the_opening_comment_or_the_class(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# Pick things up\n_target_: a.B\n")
    assert listing.describe(path) == "Pick things up"
    path.write_text("x: 1\n_target_: a.B\n")
    assert listing.describe(path) == "a.B"
