"""How many cases a property is tried on: few at every run, many where slow tests are run too (make test-slow)."""

import os

SWITCH = "SCAMTAP_TESTS_THOROUGH"


def cases(few: int, many: int) -> int:
    """Read when a test module is imported; tests/conftest.py turns the switch."""
    return many if os.environ.get(SWITCH) else few
