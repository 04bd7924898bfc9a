import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from pydantic import ValidationError

from inference.config import load_settings
from inference.errors import ConfigError
from inference.screening.config import ScreeningConfig, open_screening

SHIPPED = Path(__file__).parents[2] / "configs" / "scamtap.yaml"


def test_the_shipped_example_reads(tmp_path):
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    first = lines.index("# screening:")
    block = [line.removeprefix("# ") for line in lines[first : lines.index("", first)]]
    whole = "\n".join(line.replace("  # ", "  ", 1) if line.lstrip().startswith("# ") else line for line in block)
    for text in ("\n".join(block), whole):
        path = tmp_path / "scamtap.yaml"
        path.write_text(text, encoding="utf-8")
        screening = load_settings(path).screening
        assert screening.enabled
        assert screening.journal.keep_days == 180
    assert screening.sip is not None
    assert screening.stir is not None
    assert screening.redis is not None


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
