"""Draws docs/demo.svg: what `scamtap demo` shows 50 seconds into its two calls. Run: python docs/picture.py."""

import re
from pathlib import Path

from rich.console import Console

from inference.gateway.recording import open_recording
from inference.service.demo_view import TINY, demo_settings
from inference.service.events import AlertEvent, UtteranceEvent
from inference.service.models import build_parts, build_stages
from inference.service.replay import replay
from inference.service.terminal import CallView, side_by_side

AT_S = 50.0


def main() -> None:
    """Replay both calls up to AT_S and save the picture."""
    settings = demo_settings()
    stages = build_stages(settings)
    parts = build_parts(settings, stages)
    views = [CallView("a false bank (synthetic voices)"), CallView("the real bank (synthetic voices)")]
    for view, name in zip(views, ("demo-scam", "demo-bank"), strict=True):
        for event in replay(open_recording(TINY / f"{name}.wav")[0], parts, stages):
            known_s = (
                event.utterance.known_s
                if isinstance(event, UtteranceEvent)
                else event.alert.at_s
                if isinstance(event, AlertEvent)
                else AT_S + 1
            )
            if known_s <= AT_S:
                view.add(event)
        view.now_s = AT_S
    stages.close()
    console = Console(record=True, width=132, force_terminal=True, quiet=False)
    console.print(side_by_side(views))
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="scamtap demo"), flags=re.DOTALL)  # loads nothing
    Path(__file__).with_name("demo.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
