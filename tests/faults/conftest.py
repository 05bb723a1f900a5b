"""What the fault scenarios share."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def apart() -> Iterator[Path]:
    """A folder for a server that runs as another user.

    Each start of pytest closes the folder of all ``tmp_path`` to others.
    """
    with TemporaryDirectory(prefix="turnwise-", ignore_cleanup_errors=True) as name:
        yield Path(name)
