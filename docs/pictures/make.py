"""Makes the pictures of README and docs from a service with simulated links: make pictures.

The console by headless Chromium, the terminal's live table as SVG by the library that draws it.
"""

from __future__ import annotations

import asyncio
import io
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from rich.console import Console

from pba_client import AsyncClient
from pba_service.cli.board import Board, Selection
from pba_service.cli.table import table
from tests.process import ServiceProcess

HERE = Path(__file__).parent
LINK = "sim/wan-1"
LINKS = 8
OF_LINK = f"#/link/{quote(LINK, safe='')}"
PAGES = (
    ("console-links", "", 1280, 760),
    ("console-link", OF_LINK, 1280, 1330),
    ("console-phone", OF_LINK, 500, 1000),
    ("console-models", "#/models", 1280, 1330),
)


def main() -> None:
    """Feeds a service for a minute or two, then takes the pictures."""
    with tempfile.TemporaryDirectory() as folder, ServiceProcess(Path(folder) / "service") as service:
        feed = subprocess.Popen(
            [
                *(sys.executable, "-m", "pba_service", "simulate", "--push"),
                *("--links", str(LINKS), "--span", "8h", "--target", service.target),
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            with service.client() as client:
                serving = client.model_state().active_version
                trial = client.start_experiment(next(one.version for one in client.models() if one.version != serving))
                service.wait_until(lambda: len(list(client.links())) == LINKS, "know its links", timeout_s=120)
                service.wait_until(lambda: all(link.newest_prediction for link in client.links()), "predict them")
                # a trial is counted once its hours have come to rest
                service.wait_until(lambda: client.experiment(trial.name).evidence.periods, "observe the trial")
            asyncio.run(draw_terminal(service.target))
            for name, page, width, height in PAGES:
                photograph(f"http://127.0.0.1:{service.metrics_port}/{page}", HERE / f"{name}.png", width, height)
        finally:
            feed.terminate()
            feed.wait(30)


async def draw_terminal(target: str) -> None:
    """The table of `pba watch`."""
    console = Console(record=True, width=132, file=io.StringIO(), force_terminal=True)
    async with AsyncClient(target) as client:
        board = Board(client, Selection(), rows=LINKS)
        following = asyncio.create_task(board.follow(lambda _: None))
        deadline = time.monotonic() + 60
        while len(board.shown()) < LINKS or not all(state.parameters for state in board.shown()):
            if time.monotonic() > deadline:
                raise TimeoutError("the table did not fill")
            await asyncio.sleep(0.1)
        following.cancel()
        console.print(table(board.shown(), title=f"PBA at {target}", note="Ctrl-C ends it"))
    console.save_svg(str(HERE / "watch.svg"), title="pba watch")
    print("watch.svg")


def photograph(url: str, file: Path, width: int, height: int) -> None:
    """What a browser shows of a page."""
    browser = shutil.which("chromium") or shutil.which("chrome")
    if browser is None:
        raise SystemExit("chromium is not installed")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
                f"--user-data-dir={profile}", f"--window-size={width},{height}", "--virtual-time-budget=4000",
                f"--screenshot={file}", url,
            ],
            check=True, capture_output=True,
        )  # fmt: skip
    print(file.name)


if __name__ == "__main__":
    main()
