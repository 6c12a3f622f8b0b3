"""asgiref in the versions that users still have."""

from __future__ import annotations

from pathlib import Path

import hooked

# Each in which something that Puff replaces is different.
VERSIONS = ["3.5.0", "3.5.2", "3.6.0", "3.7.2", "3.8.1", "3.9.1", "3.10.0", "3.11.0", "3.12.1"]


def package(version: str) -> Path:
    """A folder for PYTHONPATH that has this version."""
    return hooked.old("asgiref", version)
