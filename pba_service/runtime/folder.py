"""The model folder of this replica, as the engine's port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pba_service.domain.errors import ModelRefusedError
from pba_service.engine.model_ports import FoundModel
from pba_service.runtime import files
from pba_service.runtime.session import checked, load_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from pba_service.engine.model_ports import ModelBundle
    from pba_service.engine.ports import Model, ModelInfo


class LocalFolder:
    """What lies at `PBA_MODEL_PATH`; blocking."""

    def __init__(self, path: Path) -> None:
        """Takes a model's folder, its ONNX file, or a folder of these. A file's neighbours are seen as well."""
        self._path = path
        self._places: dict[str, files.Place] = {}

    def scan(self) -> list[FoundModel]:
        """What lies there now, the model that the path means first; of several it may mean none."""
        folder = self._path.parent if self._path.suffix == ".onnx" else self._path
        found = {place.where: place for place in files.places(folder)}
        try:
            meant = files.preferred(self._path)
        except ModelRefusedError:
            meant = None
        if meant is not None:
            found = {meant.where: meant, **{where: place for where, place in found.items() if where != meant.where}}
        self._places = found
        return [
            FoundModel(
                where,
                place.stamp(),
                place.written_ns(),
                bare=place.manifest is None,
                meant=meant is not None and where == meant.where,
            )
            for where, place in found.items()
        ]

    def meant(self) -> ModelBundle:
        """Reads the model that the path means. Raises `ModelRefusedError` with why there is none."""
        return files.read(files.preferred(self._path))

    def read(self, found: FoundModel) -> ModelBundle:
        """Reads a model's files. Raises `ModelRefusedError`."""
        place = self._places.get(found.where)
        if place is None:
            raise ModelRefusedError(found.where, "it is not there any more", "unreadable")
        return files.read(place)

    def describe(self, bundle: ModelBundle) -> ModelInfo:
        """What a bundle says of itself, its checksum checked. Raises `ModelRefusedError`."""
        return checked(bundle).info

    def load(self, bundle: ModelBundle) -> Model:
        """Loads a model, proves it against its golden windows and warms it up. Raises `ModelRefusedError`."""
        return load_bundle(bundle)
