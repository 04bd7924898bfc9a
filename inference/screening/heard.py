"""What listening heard, back into screening: a number that scams in one call is prompted before the next.

And the message after a call: what the call was, to the subscriber, and to a guardian whom the subscriber named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import structlog

from inference.errors import StoreError
from inference.screening.journal import Journal
from inference.screening.labels import Labels
from inference.screening.numbers import parse_number
from inference.screening.store import Preferences, Screened, ScreeningStore

log = structlog.get_logger(__name__)

Level = Literal["none", "suspect", "danger"]
MessageKind = Literal["reminder", "guardian", "shield"]

_MESSAGES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "reminder": "The call you had at {time} sounded like {category}. If you sent money or a code, call your bank "
        "now on the number on your card. {centre}",
        "guardian": "Somebody who trusts you had a call at {time} that sounded like {category}. Please ask them about "
        "it. {centre}",
        "shield": "Very many calls are coming to your number. From {time} on, calls of strangers are checked before "
        "they ring; your contacts ring as always. Nobody from your bank asks you for a code now. {centre}",
    },
    "zh": {
        "reminder": "您{time}接到的电话疑似{category}。如已转账或提供验证码，请立即拨打银行卡背面的客服电话。{centre}",
        "guardian": "信任您的家人{time}接到一个疑似{category}的电话，请您关心一下。{centre}",
        "shield": "您的号码正遭受大量来电骚扰。自{time}起，陌生来电将先经验证，通讯录联系人不受影响。"
        "此时切勿向任何人提供验证码。{centre}",
    },
}


@dataclass(frozen=True, slots=True)
class HeardCall:
    """A call that listening followed to its end.

    Attributes:
        call_id: its id.
        caller, callee: numbers as signalled.
        level: the highest level it reached.
        family: what it looked like.
        ended_s: when, seconds since the epoch.
        is_attested: the caller's number was vouched for in full.
        said_not_a_scam: the callee pressed the key for it.
    """

    call_id: str
    caller: str | None
    callee: str
    level: Level
    family: str | None
    ended_s: float
    is_attested: bool = False
    said_not_a_scam: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """A text message for the operator's messaging gateway, through the outbox.

    Attributes:
        kind: ``reminder`` to the subscriber, ``guardian`` to somebody the subscriber named, ``shield`` to a subscriber
            who is being bombed with calls.
        to: number. Personal data.
        text: in its reader's language.
        call_id: what it is about.
    """

    kind: MessageKind
    to: str
    text: str
    call_id: str

    def to_json(self) -> dict[str, Any]:
        """As it is handed over."""
        return {"kind": self.kind, "to": f"+{self.to}", "text": self.text, "call": self.call_id}


class HeardBook:
    """Takes what listening heard.

    Args:
        store: where it is remembered.
        journal: where messages are accounted for.
        labels: names of scam families.
        region: ISO 3166, of the operator.
        time_zone: of the operator.
    """

    def __init__(self, store: ScreeningStore, journal: Journal, labels: Labels, *, region: str, time_zone: str) -> None:
        self._store = store
        self._journal = journal
        self._labels = labels
        self._region = region
        self._zone = ZoneInfo(time_zone)
        self._is_away = False

    async def heard(self, call: HeardCall) -> list[Message]:
        """Remember a call, and make the messages that follow from it; none while the store is away."""
        caller, callee = parse_number(call.caller, self._region), parse_number(call.callee, self._region)
        if callee.key is None:
            return []
        try:
            await self._mark(await self._with_attestation(call, caller.key, callee.key), caller.key, callee.key)
            if call.level != "danger" or call.said_not_a_scam:
                self._note_back()
                return []
            messages = await self._messages(call, callee.key)
        except StoreError as error:
            self._note_away(error)
            return []
        self._note_back()
        for message in messages:
            body: dict[str, object] = {"call_id": call.call_id, "callee": self._journal.pseudonym(callee.key)}
            self._journal.noted(message.kind, body | {"category": call.family or "other", "reason": "HEARD"})
        return messages

    async def _with_attestation(self, call: HeardCall, caller: str | None, callee: str) -> HeardCall:
        """With what was known of the caller when the call was set up."""
        if caller is None or call.is_attested:
            return call
        screened = await self._store.screened(caller, callee, call.ended_s)
        return replace(call, is_attested=screened.is_attested)

    async def label_of(self, caller: str | None, callee: str, at_s: float) -> Screened | None:
        """The label that a call had before it rang, to be said now that it is answered; None where it had none.

        Args:
            caller: number as signalled.
            callee: the subscriber's.
            at_s: when it was answered, seconds since the epoch.
        """
        by, to = parse_number(caller, self._region).key, parse_number(callee, self._region).key
        if by is None or to is None:
            return None
        try:
            screened = await self._store.screened(by, to, at_s)
        except StoreError as error:
            self._note_away(error)
            return None
        return None if screened.label is None else screened

    async def _messages(self, call: HeardCall, callee: str) -> list[Message]:
        """To the subscriber and the guardian: to each who did not opt out, and was not told enough that day."""
        messages: list[Message] = []
        wants, at_s = await self._store.preferences(callee, call.ended_s), call.ended_s
        if self._may_tell(wants):
            messages.append(self._message("reminder", callee, call, wants.language))
            await self._store.told(callee, "reminder", at_s)
        if wants.guardian is not None and self._may_tell(await self._store.preferences(wants.guardian, at_s)):
            messages.append(self._message("guardian", wants.guardian, call, wants.language))
            await self._store.told(wants.guardian, "reminder", at_s)
        return messages

    def _may_tell(self, wants: Preferences) -> bool:
        return wants.reminders and wants.reminders_today < self._labels.max_messages_per_day

    def _note_away(self, error: StoreError) -> None:
        if not self._is_away:
            log.error("what is heard is not remembered: calls are not held against their numbers", why=str(error))
        self._is_away = True

    def _note_back(self) -> None:
        if self._is_away:
            log.info("what is heard is remembered again")
        self._is_away = False

    async def shielded(self, callee: str, at_s: float) -> Message | None:
        """The message to a subscriber whose shield went up; None where none is wanted, or the store is away.

        Args:
            callee: digits.
            at_s: when, seconds since the epoch.
        """
        try:
            wants = await self._store.preferences(callee, at_s)
            if not wants.reminders or wants.shields_today >= self._labels.max_messages_per_day:
                return None
            await self._store.told(callee, "shield", at_s)
        except StoreError:
            return None
        call_id = f"shield-{self._journal.pseudonym(callee)[:12]}-{at_s:.0f}"
        about = HeardCall(call_id, None, callee, "none", None, at_s)
        return self._message("shield", callee, about, wants.language)

    async def _mark(self, call: HeardCall, caller: str | None, callee: str) -> None:
        if caller is None:
            return
        if call.said_not_a_scam:
            await self._store.mark(caller, callee, "not_a_scam", call.ended_s)
        elif call.level == "danger":
            await self._store.mark(caller, callee, "heard_danger", call.ended_s, is_attested=call.is_attested)
        elif call.level == "suspect":
            await self._store.mark(caller, callee, "heard_suspect", call.ended_s, is_attested=call.is_attested)

    def _message(
        self,
        kind: Literal["reminder", "guardian", "shield"],
        to: str,
        call: HeardCall,
        language: Literal["en", "zh"] | None,
    ) -> Message:
        at = datetime.fromtimestamp(call.ended_s, self._zone).strftime("%H:%M")
        chosen = language or self._labels.language
        category = self._labels.category(call.family or "other", chosen)
        text = _MESSAGES[chosen][kind].format(time=at, category=category, centre=self._labels.centre)
        return Message(kind, to, text, call.call_id)
