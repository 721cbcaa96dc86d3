"""Prints the versions of the runtime and of the frameworks in one line."""

import sys
from importlib.metadata import PackageNotFoundError, version


def of(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} missing"


names = ("redis", "Django", "Flask", "starlette", "cryptography", "pytest", "mypy")
print(f"Python {sys.version.split()[0]}, " + ", ".join(map(of, names)))
