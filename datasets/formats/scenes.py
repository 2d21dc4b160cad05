"""What Habitat calls scenes: file names that say which building is meant."""

from __future__ import annotations


def scan_of(scene_id: str) -> str:
    """The building of a scene file: "mp3d/<scan>/<scan>.glb" and "hm3d/…/<scan>.basis.glb" alike."""
    return scene_id.rsplit("/", 1)[-1].split(".", 1)[0]
