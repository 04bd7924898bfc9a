"""The store of screening over any backend: one round trip an attempt, a second only where a burst is possible."""

from dataclasses import replace

from inference.errors import CapacityError
from inference.screening.backend import Backend, Command, Drop, Field, Fields, Put
from inference.screening.callees import (
    MAX_CONTACTS,
    SHIELD_S,
    baseline_commands,
    called_commands,
    callee_commands,
    callee_outcome_command,
    callee_window,
    label_command,
    odd_command,
    screened_commands,
    screened_of,
    stale_callee_fields,
    with_habit,
)
from inference.screening.callers import (
    caller_commands,
    caller_outcome_commands,
    caller_window,
    mark_command,
    sequential_command,
    stale_caller_fields,
    surplus_marks,
)
from inference.screening.preferences import (
    FOR_GOOD_S,
    preference_commands,
    preferences_of,
    told_commands,
    told_today_command,
)
from inference.screening.store import BASELINE_FROM, CallerWindow, Mark, Preferences, Screened, Seen, Told
from inference.screening.windows import fields_of, is_sequential


class WindowStore:
    """Implements :class:`inference.screening.store.ScreeningStore`.

    Attributes:
        waits: whether an answer may be long in coming.

    Args:
        backend: where things are kept; closed with the store.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.waits = backend.waits

    async def attempt(
        self,
        caller: str | None,
        callee: str,
        at_s: float,
        *,
        is_night: bool,
        is_odd: bool = False,
        is_outgoing: bool = False,
        is_emergency: bool = False,
        is_attested: bool = False,
    ) -> Seen:
        """Count an attempt and return both windows.

        Raises:
            StoreError: the backend is away.
        """
        commands = callee_commands(caller, callee, at_s, is_odd=is_odd, is_attested=is_attested)
        num_called = num_of_caller = 0
        if caller is not None:
            of_caller = caller_commands(caller, callee, at_s, is_night=is_night)
            if is_outgoing:
                called = called_commands(caller, callee, at_s, is_emergency=is_emergency)
                of_caller, num_called = [*called, *of_caller], len(called)
            commands, num_of_caller = [*of_caller, *commands], len(of_caller)
        answers = await self._backend.run(commands)
        of_callee = answers[num_of_caller:]
        window, more = CallerWindow(), list[Command]()
        if caller is not None:
            first = answers[num_called]
            window = caller_window(answers[:num_of_caller], at_s)
            if is_sequential(first if isinstance(first, str) else None, callee):
                more.append(sequential_command(caller, at_s))
                window = replace(window, sequential=window.sequential + 1)
            if stale := stale_caller_fields(answers[:num_of_caller], at_s):
                more.append(Drop(f"c:{caller}", stale))
            last = of_callee[0]
            if not is_odd and is_sequential(last if isinstance(last, str) else None, caller):
                more.append(odd_command(callee, at_s))
        seen = callee_window(of_callee, caller, at_s)
        if stale := stale_callee_fields(of_callee, at_s):
            more.append(Drop(f"v:{callee}", stale))
        if seen.window.attempts_60s >= BASELINE_FROM:
            weeks = baseline_commands(callee, at_s)
            habit = (await self._backend.run([*more, *weeks]))[-len(weeks) :]
            return Seen(window, with_habit(seen.window, habit, at_s), seen.is_contact, seen.wants, seen.is_called_back)
        if more:
            await self._backend.run(more)
        return Seen(window, seen.window, seen.is_contact, seen.wants, seen.is_called_back)

    async def outcome(
        self, caller: str | None, callee: str, at_s: float, *, answered: bool, rang_s: float, talked_s: float
    ) -> None:
        """Count what became of an attempt.

        Raises:
            StoreError: the backend is away.
        """
        commands = [callee_outcome_command(callee, at_s, answered=answered, rang_s=rang_s)]
        if caller is not None:
            commands = [*caller_outcome_commands(caller, at_s, answered=answered, talked_s=talked_s), *commands]
        await self._backend.run(commands)

    async def mark(self, caller: str, callee: str, mark: Mark, at_s: float, *, is_attested: bool = False) -> None:
        """Note what is said about a caller.

        Raises:
            StoreError: the backend is away.
        """
        (held,) = await self._backend.run([Fields(f"m:{caller}")])
        surplus = surplus_marks(held) if isinstance(held, dict) else ()
        commands: list[Command] = [Drop(f"m:{caller}", surplus)] if surplus else []
        await self._backend.run([*commands, mark_command(caller, callee, mark, at_s, is_attested=is_attested)])

    async def shield(self, callee: str, until_s: float | None) -> None:
        """Switch emergency mode on until then, or off.

        Raises:
            StoreError: the backend is away.
        """
        value = None if until_s is None else f"{until_s:.3f}"
        await self._backend.run([Put(f"g:{callee}", "until", value, SHIELD_S)])

    async def add_contact(self, callee: str, caller: str, until_s: float | None = None, *, now_s: float = 0.0) -> None:
        """Remember a contact (None: for good) or a call-back that is expected until then; those of old go.

        Raises:
            CapacityError: the callee has as many contacts as there may be.
            StoreError: the backend is away.
        """
        key = f"k:{callee}"
        (held,) = await self._backend.run([Fields(key)])
        known = dict(held) if isinstance(held, dict) else {}
        over = tuple(number for number, until in known.items() if float(until) < now_s)
        if caller not in known and len(known) - len(over) >= MAX_CONTACTS:
            raise CapacityError(f"{MAX_CONTACTS} contacts are kept for a subscriber; take others away first")
        value = f"{1e12 if until_s is None else until_s:.0f}"
        await self._backend.run([Drop(key, over), Put(key, caller, value, FOR_GOOD_S, max_fields=MAX_CONTACTS)])

    async def forget_contact(self, callee: str, caller: str) -> None:
        """Forget a contact.

        Raises:
            StoreError: the backend is away.
        """
        await self._backend.run([Put(f"k:{callee}", caller, None, FOR_GOOD_S)])

    async def shielded_until_s(self, callee: str) -> float | None:
        """Until when emergency mode was set, seconds since the epoch; None for off.

        Raises:
            StoreError: the backend is away.
        """
        (until,) = await self._backend.run([Field(f"g:{callee}", "until")])
        return float(until) if isinstance(until, str) else None

    async def preferences(self, subscriber: str, at_s: float) -> Preferences:
        """What a subscriber wants, and how much it was told on that day.

        Raises:
            StoreError: the backend is away.
        """
        wants, told = await self._backend.run([Fields(f"o:{subscriber}"), told_today_command(subscriber)])
        return preferences_of(fields_of(wants), fields_of(told), at_s)

    async def prefer(self, subscriber: str, wants: Preferences) -> None:
        """Remember what a subscriber wants.

        Raises:
            StoreError: the backend is away.
        """
        await self._backend.run(preference_commands(subscriber, wants))

    async def labelled(self, caller: str | None, callee: str, text: str, language: str, at_s: float) -> None:
        """Count a label that is shown, and keep it until the call is answered.

        Raises:
            StoreError: the backend is away.
        """
        kept = [] if caller is None else [label_command(caller, callee, text, language, at_s)]
        await self._backend.run([*told_commands(callee, "label", at_s), *kept])

    async def screened(self, caller: str, callee: str, at_s: float) -> Screened:
        """What was decided of late about a call between these two.

        Raises:
            StoreError: the backend is away.
        """
        return screened_of(await self._backend.run(screened_commands(caller, callee)), caller, at_s)

    async def told(self, subscriber: str, what: Told, at_s: float) -> None:
        """Count a label that was shown, or a message that was sent.

        Raises:
            StoreError: the backend is away.
        """
        await self._backend.run(told_commands(subscriber, what, at_s))

    async def aclose(self) -> None:
        """Close the backend."""
        await self._backend.aclose()
