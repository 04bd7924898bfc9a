"""What tests of alerts share; test modules cannot import each other (import-mode=importlib)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def chaos() -> ModuleType:
    """tests/alerts/chaos.py."""
    path = Path(__file__).with_name("chaos.py")
    spec = importlib.util.spec_from_file_location("scamtap_tests_chaos", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
