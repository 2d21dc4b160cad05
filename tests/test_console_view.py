"""The console's 3D view: viser on the loopback, behind the proxy, with nothing to press."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from test_console_model import MJCF

from wayhand.vla.bridge.console.model3d import from_mjcf
from wayhand.vla.bridge.console.view import View

pytest.importorskip("viser", reason="the 3D view needs viser: pip install 'wayhand[console]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:viser", "ignore::DeprecationWarning:websockets")


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    path: Path = tmp_path_factory.mktemp("view") / "robot.xml"
    path.write_text(MJCF)
    with closing(View(from_mjcf(path, ["q1", "q2"]))) as made:
        yield made


def test_it_listens_on_the_loopback_alone(view: View) -> None:
    listening = "0A"
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    bound = {row[1].partition(":")[0] for row in rows if row[3] == listening and int(row[1][-4:], 16) == view.port}
    assert bound == {"0100007F"}, "127.0.0.1, as the kernel writes it"


def test_its_page_shows_no_panel(view: View) -> None:
    page = gzip.decompress(view.page)
    assert page.lstrip().startswith(b"<!doctype html>") and b"[data-floating-window]" in page.partition(b"</head>")[0]


def test_it_opens_no_tunnel(view: View) -> None:
    assert view._server.request_share_url() is None and view._server._share_tunnel is None


def test_measured_joints_move_the_picture(view: View) -> None:
    view.move(np.array([np.pi / 2, 0.0]))
    np.testing.assert_allclose(view._bodies[2].position, [0.0, 0.5, 0.5], atol=1e-9)
    view.move(np.array([0.0, 0.1]))
    np.testing.assert_allclose(view._bodies[2].position, [0.6, 0.0, 0.5], atol=1e-9)
    assert not view.watched
