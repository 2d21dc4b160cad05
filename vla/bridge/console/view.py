"""The robot in three dimensions, by viser (https://viser.studio): a picture that nobody can do anything with.

viser listens on the loopback without asking who is there. It gets no button and no box, and the ways in which its
clients could reach the outside through it are closed.
"""

from __future__ import annotations

import gzip
import http.client
import os
from importlib import import_module
from typing import Any

import numpy as np

from ...errors import ConfigError, RobotError
from .model3d import Model3D, Part

HOST = "127.0.0.1"
EYE = np.array([1.15, -1.15, 0.75])
"""Where the camera stands at first, from what it looks at [m]."""
FIELD_OF_VIEW = 0.75
"""Of the camera, from top to bottom [rad]."""
_BARE = b"""<style>
[data-floating-window], .mantine-Paper-root, .mantine-Notification-root { display: none !important }
html, body { background: #14171b }
</style>
<script>
window.Worker = class extends Worker {
  constructor(url, options) {
    if (String(url).startsWith("blob:")) {
      const source = new XMLHttpRequest();
      source.open("GET", url, false);
      source.send();
      url = "data:text/javascript;charset=utf-8," + encodeURIComponent(source.responseText);
    }
    super(url, options);
  }
};
</script>
</head>"""
"""Hides viser's panel, for what there is to press and to read is on our own page; and lets its worker start in a
sandbox, where browsers take no module from a blob."""


class View:
    """viser on a free port of the loopback, with a robot in it.

    Args:
        robot: what is drawn; it stands at its model's rest until the first `move`.

    Raises `ConfigError` where viser is not installed.
    """

    def __init__(self, robot: Model3D) -> None:
        try:
            viser: Any = import_module("viser")
        except ImportError:
            raise ConfigError("The console's 3D view needs viser", run="pip install 'wayhand[console]'") from None

        class Closed(viser.ViserServer):
            def request_share_url(self, verbose: bool = True) -> str | None:
                """viser's clients may ask for a tunnel into the internet."""
                return None

        os.environ.pop("_VISER_PORT_OVERRIDE", None)
        self._robot = robot
        self._server: Any = Closed(host=HOST, port=0, verbose=False)
        self._server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        self._light()
        self._bodies: dict[int, Any] = {}
        for number, part in enumerate(robot.parts()):
            self._draw(number, part)
        self._page = self._fetch()

    @property
    def port(self) -> int:
        return int(self._server.get_port())

    @property
    def scene(self) -> Any:
        """viser's."""
        return self._server.scene

    @property
    def page(self) -> bytes:
        """viser's one page, compressed by gzip."""
        return self._page

    def _light(self) -> None:
        centre = np.array(self._robot.centre)
        scene = self._server.scene
        scene.configure_environment_map(None)  # phones and software renderers have enough to do without it
        scene.configure_default_lights(cast_shadow=False)
        scene.add_light_ambient("/light", intensity=1.2)
        scene.add_grid("/floor", 4.0, 4.0, cell_size=0.1, section_size=0.5, cell_color=(52, 58, 66),
                       section_color=(72, 80, 90), plane_opacity=0.0, position=(0.0, 0.0, -0.002))  # fmt: skip
        camera = self._server.initial_camera
        camera.position, camera.look_at, camera.fov = tuple(centre + EYE), tuple(centre), FIELD_OF_VIEW

    def _draw(self, number: int, part: Part) -> None:
        if part.body not in self._bodies:
            self._bodies[part.body] = self._server.scene.add_frame(f"/robot/{part.body}", show_axes=False)
        r, g, b, opacity = part.colour
        self._server.scene.add_mesh_simple(
            f"/robot/{part.body}/{number}",
            part.vertices,
            part.faces,
            color=(round(255 * r), round(255 * g), round(255 * b)),
            opacity=None if opacity >= 1.0 else opacity,
            flat_shading=len(part.faces) < 200,
        )

    def move(self, joints: np.ndarray) -> None:
        """Show the robot at `joints` [A]."""
        positions, quaternions = self._robot.poses(joints)
        with self._server.atomic():
            for body, frame in self._bodies.items():
                frame.position, frame.wxyz = positions[body], quaternions[body]

    @property
    def watched(self) -> bool:
        """Whether anybody looks."""
        return bool(self._server.get_clients())

    def _fetch(self) -> bytes:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10.0)
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200 or b"</head>" not in body:
            raise RobotError("viser does not give its page", got=f"HTTP {response.status}")
        return gzip.compress(body.replace(b"</head>", _BARE, 1))

    def close(self) -> None:
        self._server.stop()
