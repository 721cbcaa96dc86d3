"""The examples of README.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BLOCKS = re.findall("```python\n(.*?)```", Path(__file__).parents[1].joinpath("README.md").read_text("utf-8"), re.S)
BEFORE = {
    1: "import flask; app = flask.Flask('x')",
    2: "from starlette.applications import Starlette; from starlette.routing import Route; "
    "from starlette.responses import PlainTextResponse",
}


@pytest.mark.parametrize("i", [0, 1, 2])
def test_an_example_runs_as_it_stands(i):
    """Django's settings, Flask and Starlette. No example needs more imports than it shows."""
    code = BEFORE.get(i, "") + "\n" + BLOCKS[i]
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
