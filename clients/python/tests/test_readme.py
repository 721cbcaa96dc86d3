"""The examples of README.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest
from patience import PATIENT
from visitor import again, new

import coatcheck

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


def test_the_cart_of_a_user(url, namespace):
    (code,) = [b for b in BLOCKS if "user_data" in b]
    code = code.replace("redis://localhost", f"{url}?{urlencode(PATIENT)}")
    of = {"coatcheck": coatcheck}
    exec(code.replace("Config(", f"Config(namespace={namespace!r}, "), of)
    s = new(of["manager"])
    of["add"](s, "apple")
    s.sign_in(coatcheck.Login("ada"))
    of["add"](s, "pear")
    s.run(s.core.before_header())
    of["remove"]("ada", "apple")
    assert of["cart"].all(again(of["manager"], s).user_data()) == {"pear": 1}
    of["manager"].close()
