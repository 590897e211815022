"""python -m deploy.generate: writes what is made by code into deploy/."""

from __future__ import annotations

from pathlib import Path

from deploy.generate.files import made

for path, text in made().items():
    target = Path(__file__).parents[1] / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    print(path)
