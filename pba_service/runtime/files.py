"""Models on disk: where they lie, which of several is meant, and reading them.

A model is a folder with `manifest.json` and the ONNX file it names; or an ONNX file with `NAME.manifest.json` beside
it; or, where its signature says all there is to know, an ONNX file alone (`bare`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pba_service.domain.errors import ModelRefusedError
from pba_service.engine.model_ports import ModelBundle
from pba_service.runtime import bare, manifest
from pba_service.runtime.manifest import MANIFEST_FILE
from pba_service.runtime.vet import MAX_MANIFEST_BYTES, MAX_ONNX_BYTES, read_bounded

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

PREFERRED = ("pba_lstm", "bandwidth_lstm")
"""Of several models in a folder the first of these that is there is taken."""

_SIDECAR = ".manifest.json"
_MAX_FOUND = 1_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model lies.

    Attributes:
        manifest: Its manifest; None for an ONNX file alone.
        onnx: Its ONNX file; None where only the manifest can say.
    """

    manifest: Path | None
    onnx: Path | None = None

    @property
    def where(self) -> str:
        """For operators, and as its identity: the ONNX file, or the model's folder."""
        return str(self.onnx or (self.manifest.parent if self.manifest else ""))

    def stamp(self) -> str:
        """Changes when one of its files is written, replaced or removed."""
        return " ".join(
            f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}" if status else "-" for status in self._statuses()
        )

    def written_ns(self) -> int:
        """When one of its files was written last, since the Unix epoch."""
        return max((status.st_mtime_ns for status in self._statuses() if status), default=0)

    def _statuses(self) -> list[os.stat_result | None]:
        paths = [path for path in (self.manifest, self.onnx) if path]
        if self.onnx is None and self.manifest:
            paths += sorted(self.manifest.parent.glob("*.onnx"))[:_MAX_FOUND]
        return [_status(path) for path in paths]


def places(path: Path) -> list[Place]:
    """Every model at a path: a model's folder, an ONNX file, or a folder of these; ordered by name.

    What cannot be listed holds none.
    """
    if path.suffix == ".onnx":
        return [_of_file(path)]
    try:
        if (path / MANIFEST_FILE).is_file():
            return [Place(path / MANIFEST_FILE), *_alone(path, belongs_to_manifest=True)]
        entries = sorted(path.iterdir())[:_MAX_FOUND]
        folders = [Place(entry / MANIFEST_FILE) for entry in entries if (entry / MANIFEST_FILE).is_file()]
    except OSError:
        return []
    return [*folders, *_alone(path, belongs_to_manifest=False)]


def preferred(path: Path) -> Place:
    """The model that a path means.

    A model's folder and an ONNX file mean themselves. In a folder of models one of `PREFERRED` is taken, else the only
    folder there is, else the ONNX file that was written last.

    Raises:
        ModelRefusedError: There is none, or several and none to prefer.
    """
    if path.suffix == ".onnx":
        return _of_file(path)
    found = places(path)
    folders = {place.manifest.parent.name: place for place in found if place.manifest and not place.onnx}
    if (path / MANIFEST_FILE).is_file():
        return Place(path / MANIFEST_FILE)
    for name in PREFERRED:
        if name in folders:
            return folders[name]
    if len(folders) == 1:
        return next(iter(folders.values()))
    if folders:
        told = f"only {', '.join(sorted(folders))} in it, and none of {', '.join(PREFERRED)}"
        raise ModelRefusedError(str(path), f"there is {told}")
    if found:
        return max(found, key=lambda place: (place.written_ns(), place.where))
    raise ModelRefusedError(str(path), "there is no model in it")


def read(place: Place) -> ModelBundle:
    """Reads a model's files; of a bare one the manifest is derived.

    Raises:
        ModelRefusedError: They cannot be read, or the manifest is not sound.
    """
    if place.manifest is None:
        if place.onnx is None:
            raise ModelRefusedError("", "there is no model in it")
        content = read_bounded(place.onnx, MAX_ONNX_BYTES)
        return ModelBundle(place.where, bare.derive(place.onnx.stem, content, place.where), content)
    text = read_bounded(place.manifest, MAX_MANIFEST_BYTES)
    said = manifest.parse(text, str(place.manifest))
    onnx = place.onnx or place.manifest.parent / said.onnx_name
    if onnx.name != said.onnx_name:
        raise ModelRefusedError(str(onnx), f"the manifest beside it is of {said.onnx_name}")
    return ModelBundle(place.where, text, read_bounded(onnx, MAX_ONNX_BYTES))


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes a model's files by name, the manifest last, each by renaming, so that nobody sees half of one.

    Nothing is replaced before all of it is on disk: a disk that fills up leaves the model that was there before.

    Raises:
        OSError: They cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partials = {name: folder / f".{name}.partial" for name in files}
    try:
        for name, content in files.items():
            partials[name].write_bytes(content)
    except OSError:
        for partial in partials.values():
            with suppress(OSError):
                partial.unlink()
        raise
    for name, partial in partials.items():
        partial.replace(folder / name)


def _of_file(onnx: Path) -> Place:
    sidecar = onnx.with_name(onnx.stem + _SIDECAR)
    beside = onnx.parent / MANIFEST_FILE
    found = next((path for path in (sidecar, beside) if path.is_file()), None)
    return Place(found, onnx)


def _alone(folder: Path, *, belongs_to_manifest: bool) -> list[Place]:
    """ONNX files that lie in a folder by themselves, which the one that the folder's own manifest names does not."""
    files = sorted(file for file in folder.glob("*.onnx") if not file.name.startswith("."))[:_MAX_FOUND]
    if belongs_to_manifest:
        try:
            text = read_bounded(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)
            named = manifest.parse(text, str(folder)).onnx_name
        except ModelRefusedError:
            return []  # which of the files it is of cannot be told
        files = [file for file in files if file.name != named]
    places_ = [_of_file(file) for file in files]
    own = folder / MANIFEST_FILE
    return [Place(None, place.onnx) if place.manifest == own else place for place in places_]


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
