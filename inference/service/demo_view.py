"""What a person sees of ``scamtap demo``: two calls side by side, then the outcome."""

import asyncio
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from inference.config import PrivacyConfig, Settings, with_engine
from inference.errors import MediaError
from inference.rtp.plane import PlaneConfig
from inference.service.api import ApiConfig
from inference.service.demo import DemoCall, load_demo_call, run_demo, write_warning
from inference.service.events import Event
from inference.service.terminal import event_line, side_by_side

TINY = Path(__file__).resolve().parents[2] / "datasets" / "tiny"
REFRESH_HZ = 8


def demo_settings(engine: str | None = None) -> Settings:
    """The defaults, on free ports of this machine; the legal basis is that nobody real is listened to.

    Raises:
        ConfigError: ``engine`` is not an engine's URL.
    """
    settings = Settings(
        privacy=PrivacyConfig(legal_basis="demo: synthetic voices reading written scripts"),
        media=PlaneConfig(host="127.0.0.1", ports=(0,)),
        api=ApiConfig(port=0),
    )
    return with_engine(settings, engine)


def show_demo(console: Console, out: Path, *, plain: bool = False, engine: str | None = None) -> bool:
    """Run both calls, show them, write what the warned subscriber heard; True where both ended as they should.

    Raises:
        ConfigError: ``engine`` is not an engine's URL.
        MediaError: the calls cannot be read, or ``out`` cannot be written.
        ScamTapError: the service does not start, or a call was not followed to its end.
    """
    if not os.access(out.parent, os.W_OK) or out.is_dir():  # better said now than after the calls
        raise MediaError(f"{out}: cannot be written: choose another file with --out")
    settings = demo_settings(engine)
    calls = [
        load_demo_call(TINY / "demo-scam.wav", "a false bank, μ-law", "PCMU"),
        load_demo_call(TINY / "demo-bank.wav", "the real bank, A-law", "PCMA"),
    ]
    longest_s = max(call.duration_s for call in calls)
    console.print(f"Two calls arrive as RTP on this machine, in real time ({longest_s:.0f} s). Voices are synthetic.")
    if settings.engine.url is not None:
        console.print(f"The models run on {settings.engine.url}.", markup=False)
    if plain or not sys.stdout.isatty():
        titles = {call.name: call.title for call in calls}

        def print_line(event: Event) -> None:
            console.print(Text.assemble((f"[{titles[event.call]}] ", "dim"), event_line(event)))

        asyncio.run(run_demo(settings, calls, print_line))
    else:
        asyncio.run(_run_live(console, settings, calls))
    return _report(console, calls, out)


async def _run_live(console: Console, settings: Settings, calls: list[DemoCall]) -> None:
    with Live(console=console, auto_refresh=False) as live:

        async def refresh() -> None:
            while True:
                live.update(side_by_side([call.view for call in calls]), refresh=True)
                await asyncio.sleep(1 / REFRESH_HZ)

        refreshing = asyncio.create_task(refresh())
        try:
            await run_demo(settings, calls, lambda _event: None)
        finally:
            refreshing.cancel()
            live.update(side_by_side([call.view for call in calls]), refresh=True)


def _report(console: Console, calls: list[DemoCall], out: Path) -> bool:
    is_good = True
    for call in calls:
        is_right, line = call.outcome()
        is_good &= is_right
        console.print(Text(f"{'✓' if is_right else '✗'} {call.title}: {line}", style="green" if is_right else "red"))
    warned = calls[0]
    write_warning(warned, out)
    console.print(f"What the subscriber heard, with the warning: {out}")
    return is_good
