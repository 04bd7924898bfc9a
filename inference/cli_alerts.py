"""``scamtap alerts``: what becomes of alerts that no system would take."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from inference.errors import ConfigError

stdout = Console(highlight=False, soft_wrap=True)

alerts = typer.Typer(no_args_is_help=True, help="Alerts that no system would take.")


@alerts.callback()
def _alerts() -> None:
    """Keep it a group, though it has one command."""


@alerts.command()
def resend(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings, as of scamtap serve.", show_default="none")
    ] = None,
) -> None:
    """Deliver the dead letters once more, to the sinks they were for; a worker may be running.

    Exits 0 only if none is left. Receivers know by the id what they have already.
    """
    from inference.alerts.resend import resend as resend_letters
    from inference.config import load_settings

    settings = load_settings(config).alerts
    dead_letters = settings.dead_letters()
    if dead_letters is None:
        raise ConfigError("no dead letters are kept: set alerts.dead_letter_path or alerts.outbox_path")

    async def run() -> tuple[int, int]:
        sinks = settings.sinks()
        try:
            return await resend_letters(dead_letters, sinks)
        finally:
            for sink in sinks:
                await sink.aclose()

    num_delivered, num_left = asyncio.run(run())
    stdout.print(f"{num_delivered} delivered, {num_left} left in {dead_letters.path}", markup=False)
    if num_left:
        raise typer.Exit(1)
