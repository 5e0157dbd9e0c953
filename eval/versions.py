"""Versions of what computes figures."""

import platform
from importlib.metadata import PackageNotFoundError, version

from qpeft_rerank import __version__

_PACKAGES = (
    "pyserini",
    "torch",
    "transformers",
    "peft",
    "numpy",
    "scipy",
    "pandas",
    "pytrec_eval-terrier",
)


def versions() -> dict[str, str]:
    """Versions of what computes figures here."""
    found = {"qpeft_rerank": __version__, "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # another distribution of the same module, such as a build from source
    return found
