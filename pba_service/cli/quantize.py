"""Makes a quantised variant, measures it, and writes it only if it may stand in for the original."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pba_service.cli.show import print_json
from pba_service.cli.told import CommandError, ExitCode, tell

if TYPE_CHECKING:
    from pathlib import Path

    from pba_service.domain.samples import Series
    from pba_service.evaluation.variant import Comparison

_SAMPLES, _LINKS, _CADENCE_MS = 1_500, 12, 60_000
_START_MS = 1_767_225_600_000  # 2026-01-01


def quantize_model(model: Path, output: Path, data: Path | None, *, as_json: bool) -> None:
    """Quantises a model, compares it with the original on this machine, and writes it if it is within bounds.

    Raises:
        CommandError: It is not, or a model or file cannot be read or written.
    """
    from pba_service.domain.errors import ModelRefusedError  # noqa: PLC0415 - only this command needs it
    from pba_service.evaluation.variant import compare  # noqa: PLC0415
    from pba_service.files import read_links  # noqa: PLC0415
    from pba_service.runtime import files, quantize  # noqa: PLC0415
    from pba_service.runtime.session import load_bundle  # noqa: PLC0415

    try:
        bundle = files.read(files.preferred(model))
        original = load_bundle(bundle)
        made = quantize.quantise(bundle)
        variant = load_bundle(made)
    except ModelRefusedError as error:
        raise CommandError(str(error)) from None
    except ImportError:
        raise CommandError("quantising takes the extra named train: pip install 'pba[train]'") from None
    links = [link.series for link in read_links(data)] if data else _simulated()
    try:
        comparison = compare(original, variant, links, _CADENCE_MS)
    except ValueError as error:
        raise CommandError(str(error)) from None
    _print(comparison, original.info.version, variant.info.version, as_json=as_json)
    if faults := comparison.faults:
        raise CommandError(f"{variant.info.version} is refused: {'; '.join(faults)}", ExitCode.FAILED)
    try:
        quantize.write(made, output)
    except OSError as error:
        raise CommandError(f"{output}: {error.strerror or error}") from None
    tell(f"wrote {output}")


def _simulated() -> list[Series]:
    """Links of each kind that the simulator knows, the same each time."""
    from pba_service.domain.profiles import PROFILES  # noqa: PLC0415 - only this command needs it
    from pba_service.domain.simulate import simulate  # noqa: PLC0415

    kinds = list(PROFILES.values())
    return [simulate(kinds[seed % len(kinds)], seed, _START_MS, _SAMPLES, _CADENCE_MS).series for seed in range(_LINKS)]


def _print(comparison: Comparison, original: str, variant: str, *, as_json: bool) -> None:
    if as_json:
        print_json(comparison)
        return
    typer.echo(f"{variant} beside {original}, {comparison.windows} windows:")
    for metric, ratio in comparison.error_ratio.items():
        typer.echo(f"  error of {metric}: {ratio:.3f} of the original's")
    typer.echo(f"  a forecast moves by {comparison.batch_drift:.2g} of its usual error with the windows beside it")
    from pba_service.evaluation.variant import BATCHES  # noqa: PLC0415 - only this command needs it

    for batch, before, after in zip(BATCHES, comparison.original_us, comparison.variant_us, strict=True):
        typer.echo(f"  microseconds per window, {batch} at a time: {before:.0f} before, {after:.0f} after")
