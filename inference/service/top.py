"""``scamtap top``: how a running worker copes, as its control API tells it; nothing of what is said in its calls."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import httpx
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from inference.errors import ScamTapError
from inference.service.api import ApiConfig
from inference.service.overload import Step
from inference.service.terminal import STYLE, clock, meter, printable

Json: TypeAlias = Mapping[str, Any]

STEP_STYLE: dict[Step, str] = {"normal": "green", "long_hop": "yellow", "gate_only": "yellow", "refusing": "bold red"}
LOST = ("shed_late_s", "shed_full_s", "failed_s", "given_up_s")
"""Speech that nobody will hear, as ``/v1/load`` names it."""

SHOWN_CALLS = 15
ANSWER_S = 5.0


def open_api(config: ApiConfig) -> httpx.Client:
    """A client of the worker that these settings are of."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    headers = {} if config.token is None else {"Authorization": f"Bearer {config.token.get_secret_value()}"}
    return httpx.Client(base_url=f"http://{host}:{config.port}", headers=headers, timeout=ANSWER_S, trust_env=False)


def looks(
    api: httpx.Client, every_s: float, sleep: Callable[[float], None] = time.sleep
) -> Iterator[tuple[Json, Sequence[Json]]]:
    """The worker's load and its calls, again and again.

    Raises:
        ScamTapError: nobody answers there, or not to us.
    """
    while True:
        yield _get(api, "/v1/load"), _get(api, "/v1/calls")
        sleep(every_s)


def _get(api: httpx.Client, path: str) -> Any:
    try:
        answer = api.get(path)
    except httpx.HTTPError as error:
        raise ScamTapError(f"no worker answers at {api.base_url}: start scamtap serve, or give its --config") from error
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise ScamTapError(f"the worker at {api.base_url} wants its token: set api.token")
    if answer.status_code != httpx.codes.OK:
        raise ScamTapError(f"the worker at {api.base_url} answers {answer.status_code}: is it of this version?")
    return answer.json()


def view(load: Json, calls: Sequence[Json]) -> RenderableType:
    """A picture of one look: the step and the lag, what became of the speech, the riskiest calls."""
    lost_s = sum(load[name] for name in LOST)
    heading = Text.assemble(
        (load["step"], STEP_STYLE[load["step"]]),
        f"  {load['calls']} calls  lag {load['lag_s']:.2f} s  waiting {load['waiting_s']:.1f} s",
    )
    speech = Text.assemble(
        f"speech {load['offered_s']:.0f} s: understood {load['understood_s']:.0f}, "
        f"held by the gate {load['held_s']:.0f}, ",
        (f"lost {lost_s:.1f}", "bold red" if lost_s else ""),
        f" (late {load['shed_late_s']:.1f}, no room {load['shed_full_s']:.1f}, failed {load['failed_s']:.1f}, "
        f"given up {load['given_up_s']:.1f})",
    )
    table = Table("call", "age", "risk", "shed s", "held s", box=None, header_style="dim")
    for call in sorted(calls, key=lambda call: -call["risk"])[:SHOWN_CALLS]:
        name, level = Text(printable(call["id"])), call["level"]
        name.stylize(STYLE[level])
        shed = Text(f"{call['shed_s']:.1f}", style="bold red" if call["shed_s"] else "")
        table.add_row(name, clock(call["age_s"]), meter(call["risk"], level), shed, f"{call['held_s']:.1f}")
    return Group(heading, speech, Text(""), table)
