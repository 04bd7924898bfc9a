import asyncio
from contextlib import AsyncExitStack

import pytest
from pydantic import ValidationError

from inference.errors import ConfigError
from inference.screening.config import ScreeningConfig, open_screening


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"rules": {"own_ranges": ["+44"]}}, "no prefix"),
        ({"rules": {"region": "gb"}}, "region"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_mistake_names_its_setting(values, said):
    with pytest.raises(ValidationError) as caught:
        ScreeningConfig(**values)
    assert said in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    config = ScreeningConfig(stir={"roots": tmp_path / "none.pem", "certificate_hosts": ["x.example"]})

    async def go():
        async with AsyncExitStack() as stack:
            open_screening(config, stack)

    with pytest.raises(ConfigError, match=r"none\.pem"):
        asyncio.run(go())
