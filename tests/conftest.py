"""Shared by all tests: hypothesis without deadlines (a loaded machine is not a bug), and the reference data."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("steady", deadline=None, print_blob=True)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder of reference data (BNN_REFERENCE_DATA); tests that need it are skipped where it is unset."""
    folder = os.environ.get("BNN_REFERENCE_DATA")
    if not folder:
        pytest.skip("BNN_REFERENCE_DATA is not set")
    return Path(folder)
