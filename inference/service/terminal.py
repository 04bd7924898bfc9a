"""Calls as a person watches them: words as they are spoken, risk as it climbs, warnings as they come.

Whatever a caller says is printed as text, never as markup or control codes.
"""

import unicodedata
from collections import deque
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from inference.alerts.alert import Alert
from inference.service.events import AlertEvent, Event, OpinionEvent, UtteranceEvent, VerdictEvent
from inference.verdict.verdict import Level

STYLE: dict[Level, str] = {"none": "green", "suspect": "yellow", "danger": "bold red"}
METER_WIDTH = 24
SHOWN_LINES = 9


def printable(text: str) -> str:
    """``text`` without control, format or surrogate characters: a transcript must not steer a terminal."""
    return "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text)


def clock(seconds: float) -> str:
    """Call time as ``m:ss``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def meter(risk: float, level: Level) -> Text:
    """A risk bar."""
    filled = round(max(0.0, min(1.0, risk)) * METER_WIDTH)
    return Text.assemble(("█" * filled, STYLE[level]), ("░" * (METER_WIDTH - filled), "dim"), f" {risk:4.0%}")


def alert_line(alert: Alert) -> Text:
    """One line of warning."""
    looks_like = (alert.family or "scam").replace("_", " ")
    words = f"▲ {alert.level.upper()} at {clock(alert.at_s)}: looks like {looks_like}, risk {alert.risk:.0%}"
    return Text(words, style=STYLE[alert.level])


def opinion_line(event: OpinionEvent) -> Text:
    """One line of what a language model made of the call."""
    return Text(f"{clock(event.at_s):>5} opinion asked for: {event.level}, risk {event.risk:.0%}", style="dim")


def event_line(event: Event) -> Text:
    """One line for a plain terminal or a pipe."""
    match event:
        case UtteranceEvent(utterance=u, risk=risk):
            return Text.assemble(
                (f"{clock(u.start_s):>5} ", "dim"),
                (f"{u.leg:<5}", "cyan" if u.leg == "far" else "blue"),
                printable(u.text),
                (f"  {risk:.0%}", "dim"),
            )
        case OpinionEvent():
            return opinion_line(event)
        case AlertEvent(alert=alert):
            return alert_line(alert)
        case VerdictEvent() as verdict:
            when = "" if verdict.first_alert_s is None else f", first warned at {clock(verdict.first_alert_s)}"
            words = f"■ {printable(verdict.call)}: {verdict.level}, risk {verdict.risk:.0%}{when}"
            return Text(words, style=STYLE[verdict.level])


@dataclass(slots=True)
class CallView:
    """What is shown of one call.

    Attributes:
        title: a heading.
        now_s: call time, seconds.
    """

    title: str
    risk: float = 0.0
    level: Level = "none"
    now_s: float = 0.0
    lines: deque[Text] = field(default_factory=lambda: deque(maxlen=SHOWN_LINES))

    def add(self, event: Event) -> None:
        """Take one event of this call."""
        match event:
            case UtteranceEvent(utterance=u, risk=risk):
                self.risk = risk
                self.lines.append(
                    Text.assemble(
                        (f"{clock(u.start_s):>5} ", "dim"),
                        ("them " if u.leg == "far" else "you  ", "cyan" if u.leg == "far" else "blue"),
                        printable(u.text),
                    )
                )
            case OpinionEvent(risk=risk):
                self.risk = risk
                self.lines.append(opinion_line(event))
            case AlertEvent(alert=alert):
                self.level = alert.level
                self.lines.append(alert_line(alert))
            case VerdictEvent(level=level, risk=risk):
                self.level, self.risk = level, risk

    def render(self) -> RenderableType:
        """A panel: heading, meter, the latest lines."""
        heading = Text.assemble((f"{clock(self.now_s):>5}  ", "dim"), "risk ", meter(self.risk, self.level))
        return Panel(
            Group(heading, Text(""), *self.lines),
            title=Text(self.title),
            border_style=STYLE[self.level],
            height=SHOWN_LINES * 2 + 4,
        )


def side_by_side(views: list[CallView]) -> RenderableType:
    """Several calls next to each other."""
    table = Table.grid(expand=True, padding=(0, 1))
    for _ in views:
        table.add_column(ratio=1)
    table.add_row(*(view.render() for view in views))
    return table
