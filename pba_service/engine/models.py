"""Which loaded model serves a link, and which are tried beside it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from pba_service.domain.errors import ModelUnavailableError
from pba_service.domain.lifecycle import Desired, Pin, Scope
from pba_service.domain.samples import LinkInfo
from pba_service.domain.window import MIN_SLOTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pba_service.domain.lifecycle import Experiment
    from pba_service.engine.ports import Model, ModelInfo, Store

INFO_TTL_S = 60.0
"""How long it may take until a link whose node, peer or region changed is served by what is pinned to the new one."""

_INFOS_KEPT = 200_000


@dataclass(frozen=True, slots=True)
class Trial:
    """An experiment on a link: both models read each of its windows.

    Attributes:
        experiment: What is tried.
        champion, challenger: The loaded models.
    """

    experiment: Experiment
    champion: Model
    challenger: Model


@dataclass(frozen=True, slots=True)
class Route:
    """The models of a link.

    Attributes:
        serving: Its predictions come from this one.
        trials: What is tried on it.
    """

    serving: Model
    trials: tuple[Trial, ...] = ()

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model that reads the link's windows, each once."""
        both = chain.from_iterable((trial.champion, trial.challenger) for trial in self.trials)
        return tuple({id(model): model for model in (self.serving, *both)}.values())

    @property
    def window_slots(self) -> int:
        """The slots that the longest-sighted of them reads."""
        return max(model.info.window_slots for model in self.models)


class ModelSet:
    """The loaded models and what is desired of them; never changed, but replaced by another set.

    A link is served by the first of these that is loaded: its pins from the most particular to the widest (each a chain
    of versions), the active version, those active before it, any.
    """

    def __init__(self, loaded: Mapping[str, Model], desired: Desired) -> None:
        """Takes the models by their versions."""
        self.loaded = dict(loaded)
        self.desired = desired
        self._pins: dict[tuple[Scope, str], Pin] = {(pin.scope, pin.value): pin for pin in desired.pins}
        prefixes = (pin for pin in desired.pins if pin.scope is Scope.PREFIX)
        self._prefixes = sorted(prefixes, key=lambda pin: len(pin.value), reverse=True)
        self._default = self._first_loaded((desired.active, *desired.previous, *self.loaded))
        self._routes: dict[tuple[int, int], Route] = {}
        self.by_info = any(pin.scope in {Scope.NODE, Scope.PEER, Scope.REGION} for pin in desired.pins)
        """Whether routes depend on more of a link than its id."""

    @classmethod
    def of(cls, model: Model) -> ModelSet:
        """One model for all links."""
        return cls({model.info.version: model}, Desired(active=model.info.version))

    @property
    def default(self) -> Model | None:
        """The model of links without a pin; None when none is loaded."""
        return self._default

    @property
    def infos(self) -> list[ModelInfo]:
        """What the loaded models say of themselves, the one that `default` gives first."""
        ordered = sorted(self.loaded.values(), key=lambda model: model is not self._default)
        return [model.info for model in ordered]

    @property
    def window_slots(self) -> int:
        """The slots that the longest-sighted model reads."""
        return max((model.info.window_slots for model in self.loaded.values()), default=MIN_SLOTS)

    def version_of(self, link_id: str) -> str | None:
        """The version that serves a link as far as its id tells; None where that takes more, or none is loaded."""
        if self._default is None or self.by_info:
            return None
        if not self._pins and not self.desired.experiments:
            return self._default.info.version
        return self.route(LinkInfo(link_id)).serving.info.version

    def route(self, link: LinkInfo) -> Route:
        """The models of a link.

        Raises:
            ModelUnavailableError: None is loaded.
        """
        model = self._default
        if self._pins:
            pinned = chain.from_iterable(pin.versions for pin in self._fitting(link))
            model = self._first_loaded(pinned) or model
        if model is None:
            raise ModelUnavailableError
        trials = self._trials(model)
        serving = next((t.challenger for t in trials if t.experiment.is_served_by_challenger(link.link_id)), model)
        key = (id(model), id(serving))
        if key not in self._routes:
            self._routes[key] = Route(serving, trials)
        return self._routes[key]

    @property
    def only_route(self) -> Route | None:
        """The models of every link, where nothing is pinned or tried; None where that depends on the link.

        Raises:
            ModelUnavailableError: None is loaded.
        """
        if self._pins or self.desired.experiments:
            return None
        return self.route(LinkInfo(""))

    def _fitting(self, link: LinkInfo) -> Iterator[Pin]:
        if pin := self._pins.get((Scope.LINK, link.link_id)):
            yield pin
        yield from (pin for pin in self._prefixes if pin.fits(link))
        for scope, value in ((Scope.NODE, link.node), (Scope.PEER, link.peer), (Scope.REGION, link.region)):
            if pin := self._pins.get((scope, value)):
                yield pin

    def _trials(self, champion: Model) -> tuple[Trial, ...]:
        return tuple(
            Trial(experiment, champion, challenger)
            for experiment in self.desired.experiments
            if experiment.champion == champion.info.version
            and (challenger := self.loaded.get(experiment.challenger)) is not None
        )

    def _first_loaded(self, versions: Iterator[str] | Sequence[str]) -> Model | None:
        return next((self.loaded[version] for version in versions if version in self.loaded), None)


class Router:
    """Finds the models of links by what the store knows of them.

    Attributes:
        models: What is chosen from; replaced as a whole, between two batches.
    """

    def __init__(self, store: Store) -> None:
        """Takes where links are described."""
        self.models = ModelSet({}, Desired())
        self._store = store
        self._infos: dict[str, tuple[float, LinkInfo]] = {}

    async def routes(self, link_ids: Sequence[str]) -> list[Route]:
        """The models of each link.

        Raises:
            ModelUnavailableError: None is loaded.
            StoreUnavailableError: What links are had to be read and could not be.
        """
        models = self.models
        if only := models.only_route:
            return [only] * len(link_ids)
        if not models.by_info:
            return [models.route(LinkInfo(link_id)) for link_id in link_ids]
        now = asyncio.get_running_loop().time()
        unknown = [one for one in link_ids if self._infos.get(one, (0.0,))[0] <= now]
        if unknown:
            if len(self._infos) + len(unknown) > _INFOS_KEPT:
                self._infos.clear()
                unknown = list(link_ids)
            for link_id, info in zip(unknown, await self._store.link_infos(unknown), strict=True):
                self._infos[link_id] = (now + INFO_TTL_S, info or LinkInfo(link_id))
        return [models.route(self._infos[link_id][1]) for link_id in link_ids]
