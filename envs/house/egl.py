"""The headless OpenGL context of this process, shared by all house renderers.

It is made current for the length of a drawing and the context that was current before (MuJoCo's, habitat-sim's) is
put back, so that renderers of several libraries live in one process.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...vla.errors import ConfigError

# llvmpipe's rasteriser threads lose more by waking up for small pictures than they win.
os.environ.setdefault("LP_NUM_THREADS", "0")

_EGL_DRAW, _EGL_READ = 0x3059, 0x305A
_context: Any = None
_owner = 0
_handle: int | None = None
_abandoned: list[object] = []


def _library() -> ctypes.CDLL:
    egl = ctypes.CDLL("libEGL.so.1")
    for name in ("eglGetCurrentContext", "eglGetCurrentDisplay", "eglGetCurrentSurface"):
        getattr(egl, name).restype = ctypes.c_void_p
    egl.eglGetCurrentSurface.argtypes = [ctypes.c_int]
    egl.eglMakeCurrent.argtypes = [ctypes.c_void_p] * 4
    return egl


_egl: ctypes.CDLL | None = None


def _create() -> None:
    global _context, _owner, _egl, _handle
    try:
        import moderngl

        _egl = _library()
        options: dict[str, Any] = {"standalone": True, "backend": "egl"}
        _context = moderngl.create_context(**options)
    except Exception as error:  # moderngl and its loader raise plain exceptions
        raise ConfigError(
            "OpenGL over EGL does not work here, so houses cannot be rendered",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            run="sudo apt-get install libegl1 libegl-mesa0 libopengl0 libgl1-mesa-dri",
        ) from error
    _owner = os.getpid()
    _handle = _egl.eglGetCurrentContext()


@contextmanager
def current() -> Iterator[Any]:
    """The process's `moderngl.Context`, current on this thread within the block.

    Raises:
        ConfigError: no EGL; the message names the system packages.
    """
    global _context
    if _context is not None and _owner != os.getpid():
        # What a forked child inherits belongs to its parent: it is kept, unused, and never freed here.
        _abandoned.append(_context)
        _context = None
    egl = _egl
    before = egl.eglGetCurrentContext() if egl is not None and _context is not None else None
    saved: tuple[Any, Any, Any, Any] | None = None
    if _context is None:
        egl = _library_or_none()
        if egl is not None:
            saved = _saved(egl)
        _create()
    elif before != _handle:
        saved = _saved(egl)
        _context.__enter__()
    try:
        yield _context
    finally:
        if saved is not None and saved[3] and _egl is not None:
            _egl.eglMakeCurrent(*saved)


def _library_or_none() -> ctypes.CDLL | None:
    try:
        return _library()
    except OSError:
        return None


def _saved(egl: ctypes.CDLL | None) -> tuple[Any, Any, Any, Any] | None:
    if egl is None or not egl.eglGetCurrentContext():
        return None
    return (
        egl.eglGetCurrentDisplay(),
        egl.eglGetCurrentSurface(_EGL_DRAW),
        egl.eglGetCurrentSurface(_EGL_READ),
        egl.eglGetCurrentContext(),
    )


def process() -> int:
    """The process that owns the present context; objects made in another are void."""
    return _owner
