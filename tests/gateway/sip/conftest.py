"""What tests of SIP share."""

import importlib.util
from pathlib import Path

import pytest

WIRE = Path(__file__).parents[1] / "sip" / "wire.py"


@pytest.fixture(scope="session")
def sip():
    """tests/gateway/sip/wire.py; test modules cannot import each other (import-mode=importlib)."""
    spec = importlib.util.spec_from_file_location("scamtap_tests_sip_wire", WIRE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clock(sip):
    """A virtual clock."""
    return sip.Clock()
