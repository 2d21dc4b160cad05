"""Choice of the headless OpenGL backend and the one GL context of the process.

MuJoCo reads `MUJOCO_GL` when it is first imported; `select_backend` therefore runs when this package is imported,
before any module of it imports `mujoco`.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib
import os
import sys
from typing import Any

from ...vla.errors import ConfigError

BACKENDS = ("egl", "osmesa", "glfw")
_PACKAGES = {
    "egl": "libegl1 libegl-mesa0 libopengl0 libgl1-mesa-dri",
    "osmesa": "libosmesa6",
    "glfw": "a running display server",
}


def _load(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


@functools.cache
def egl_available() -> bool:
    """Whether some EGL device can be initialised without a display server."""
    egl = _load("libEGL.so.1")
    if egl is None:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    query = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    display_of = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    if not query or not display_of:
        return False
    query_devices = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))(query)
    platform_display = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)(display_of)
    devices, count = (ctypes.c_void_p * 16)(), ctypes.c_int()
    if not query_devices(16, devices, ctypes.byref(count)):
        return False
    egl.eglInitialize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    egl_platform_device = 0x313F
    for device in devices[: count.value]:
        display = platform_display(egl_platform_device, device, None)
        if display and egl.eglInitialize(display, None, None):
            return True
    return False


@functools.cache
def osmesa_available() -> bool:
    """Whether the OSMesa library (software rendering without EGL) can be loaded."""
    return any(_load(name) is not None for name in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"))


def select_backend() -> str:
    """The backend to render with; sets `MUJOCO_GL` where the user has not.

    `MUJOCO_GL` wins; then EGL, then OSMesa, then a display server (glfw). Returns "" where nothing can render, which
    becomes an error only when something asks for a picture.
    """
    # llvmpipe would start rasteriser threads in every process: small pictures only lose by that, and a forked child
    # would wait for ever for threads it did not inherit. Mesa reads this when EGL is first tried, just below.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    if not chosen:
        if egl_available():
            chosen = "egl"
        elif osmesa_available():
            chosen = "osmesa"
        elif os.environ.get("DISPLAY") or sys.platform != "linux":
            chosen = "glfw"
        if chosen:
            os.environ["MUJOCO_GL"] = chosen
    return chosen


_context: Any = None
_owner: int = 0
_abandoned: list[object] = []


def current_context() -> Any:
    """The GL context of this process, made current on the calling thread.

    One context serves every renderer: MuJoCo draws into a framebuffer of its own, so the context has no size.

    Raises:
        ConfigError: no backend works; the message names the system packages.
    """
    global _context, _owner
    if _context is not None and _owner != os.getpid():
        abandon(_context)
        _context = None
    if _context is None:
        _context = _create()
        _owner = os.getpid()
        atexit.register(_free, os.getpid())
    _context.make_current()
    return _context


def abandon(thing: object) -> None:
    """Keep a GL object of the parent process alive: freeing it in a forked child would free what the parent uses."""
    if thing is not None:
        _abandoned.append(thing)


def _create() -> Any:
    name = os.environ.get("MUJOCO_GL", "").lower()
    if name not in BACKENDS:
        raise ConfigError(
            "No OpenGL backend works here, so nothing can be rendered" if not name else "Unknown MUJOCO_GL",
            got=f"MUJOCO_GL={name!r}",
            exists=BACKENDS,
            run="sudo apt-get install libegl1 libegl-mesa0 libopengl0 libgl1-mesa-dri   (or: libosmesa6)",
        )
    try:
        return importlib.import_module(f"mujoco.{name}").GLContext(64, 64)
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"The OpenGL backend '{name}' cannot be used",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            exists=BACKENDS,
            run=f"install {_PACKAGES[name]}, or choose another backend with MUJOCO_GL=…",
        ) from error


def _free(pid: int) -> None:
    global _context
    if _context is not None and pid == os.getpid():
        _context.free()
        _context = None


def renderer_info() -> dict[str, str]:
    """`backend`, `vendor`, `renderer` (GL_RENDERER) and `version` of the GL this process renders with.

    Raises:
        ConfigError: no backend works.
    """
    current_context()
    from OpenGL import GL

    def text(what: int) -> str:
        value = GL.glGetString(what)
        return value.decode() if value else "unknown"

    return {
        "backend": os.environ["MUJOCO_GL"],
        "vendor": text(GL.GL_VENDOR),
        "renderer": text(GL.GL_RENDERER),
        "version": text(GL.GL_VERSION),
    }
