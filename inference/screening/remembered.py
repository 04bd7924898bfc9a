"""The store of screening over any backend: one round trip an attempt, a second only where a burst is possible."""

from collections.abc import Sequence
from dataclasses import replace

from inference.screening.backend import Answer, Backend, Command, Drop, Fields, Put
from inference.screening.store import BASELINE_FROM, CalleeWindow, CallerWindow, Mark, Preferences, Seen
from inference.screening.windows import (
    CALLBACK_S,
    FOR_GOOD_S,
    MAX_CONTACTS,
    callee_commands,
    callee_window,
    caller_commands,
    caller_window,
    is_sequential,
    mark_command,
    odd_command,
    outcome_commands,
    preference_commands,
    preferences_of,
    sequential_command,
    shown_commands,
    stale_fields,
)

MAX_FIELDS_HELD = 200
"""Of a callee's short windows, before old buckets are taken away."""


class WindowStore:
    """Implements :class:`inference.screening.store.ScreeningStore`.

    Args:
        backend: where things are kept; closed with the store.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def attempt(
        self, caller: str | None, callee: str, at_s: float, *, is_night: bool, is_odd: bool = False
    ) -> Seen:
        """Count an attempt and return both windows.

        Raises:
            StoreError: the backend is away.
        """
        of_caller = [] if caller is None else caller_commands(caller, callee, at_s, is_night=is_night)
        answers = await self._backend.run([*of_caller, *callee_commands(caller, callee, at_s, is_odd=is_odd)])
        first, second = answers[: len(of_caller)], answers[len(of_caller) :]
        window = CallerWindow()
        if caller is not None:
            window = caller_window(first, at_s)
            if is_sequential(first[0] if isinstance(first[0], str) else None, callee):
                await self._backend.run([sequential_command(caller, at_s)])
                window = replace(window, sequential=window.sequential + 1)
        if (
            not is_odd
            and caller is not None
            and is_sequential(second[0] if isinstance(second[0], str) else None, caller)
        ):
            await self._backend.run([odd_command(callee, at_s)])
        callee_seen, is_contact, wants = callee_window(second, at_s)
        if callee_seen.attempts_60s >= BASELINE_FROM:
            callee_seen = await self._with_baseline(callee, second, at_s)
        return Seen(window, callee_seen, is_contact, wants)

    async def _with_baseline(self, callee: str, answers: Sequence[Answer], at_s: float) -> CalleeWindow:
        held = answers[-5]
        commands: list[Command] = [Fields(f"b:{callee}")]
        if isinstance(held, dict) and len(held) > MAX_FIELDS_HELD:
            commands.append(Drop(f"v:{callee}", stale_fields(held, at_s)))
        baseline, *_ = await self._backend.run(commands)
        return callee_window(answers, at_s, baseline if isinstance(baseline, dict) else None)[0]

    async def outcome(
        self, caller: str | None, callee: str, at_s: float, *, answered: bool, rang_s: float, talked_s: float
    ) -> None:
        """Count what became of an attempt.

        Raises:
            StoreError: the backend is away.
        """
        commands = outcome_commands(caller, callee, at_s, answered=answered, rang_s=rang_s, talked_s=talked_s)
        if commands:
            await self._backend.run(commands)

    async def mark(self, caller: str, callee: str, mark: Mark, at_s: float, *, is_attested: bool = False) -> None:
        """Note what is said about a caller.

        Raises:
            StoreError: the backend is away.
        """
        await self._backend.run([mark_command(caller, callee, mark, at_s, is_attested=is_attested)])

    async def shield(self, callee: str, until_s: float | None) -> None:
        """Switch emergency mode on until then, or off.

        Raises:
            StoreError: the backend is away.
        """
        value = None if until_s is None else f"{until_s:.3f}"
        await self._backend.run([Put(f"g:{callee}", "until", value, CALLBACK_S)])

    async def add_contact(self, callee: str, caller: str, until_s: float | None = None) -> None:
        """Remember a contact (None: for good) or a call-back that is expected until then.

        Raises:
            StoreError: the backend is away.
        """
        value = f"{1e12 if until_s is None else until_s:.0f}"
        await self._backend.run([Put(f"k:{callee}", caller, value, FOR_GOOD_S, max_fields=MAX_CONTACTS)])

    async def preferences(self, subscriber: str) -> Preferences:
        """What a subscriber wants.

        Raises:
            StoreError: the backend is away.
        """
        (fields,) = await self._backend.run([Fields(f"o:{subscriber}")])
        return preferences_of(fields if isinstance(fields, dict) else {}, 0.0)

    async def prefer(self, subscriber: str, wants: Preferences) -> None:
        """Remember what a subscriber wants.

        Raises:
            StoreError: the backend is away.
        """
        await self._backend.run(preference_commands(subscriber, wants))

    async def shown(self, callee: str, at_s: float) -> None:
        """Count a label that was shown.

        Raises:
            StoreError: the backend is away.
        """
        await self._backend.run(shown_commands(callee, at_s))

    async def aclose(self) -> None:
        """Close the backend."""
        await self._backend.aclose()
