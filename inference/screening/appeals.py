"""Appeals: the owner of a number asks to be taken off a list, somebody at the operator decides, and both are kept.

Who, when and why go into the chained log of the lists, and a line into the journal, so that reports count them.
"""

from dataclasses import dataclass
from typing import Any, Literal

from inference.errors import StoreError
from inference.screening.entries import Changed, EntryBook
from inference.screening.journal import Journal
from inference.screening.lists import AppealState, ListEntry, ListKind, NumberLists

Step = Literal["open", "grant", "refuse"]
CHANGES: dict[Step, Literal["appealed", "appeal_granted", "appeal_refused"]] = {
    "open": "appealed",
    "grant": "appeal_granted",
    "refuse": "appeal_refused",
}


@dataclass(frozen=True, slots=True)
class Appeal:
    """What an appeal is against.

    Attributes:
        kind: of the list.
        number: digits; of a published list always one number, also where a prefix lists it.
        is_prefix: of an entry.
        of_list: name of the published list; None for an entry.
    """

    kind: ListKind
    number: str
    is_prefix: bool = False
    of_list: str | None = None


class Appeals:
    """Takes appeals and decisions; blocking, a few writes to disk each.

    Args:
        entries: the book they are written into.
        lists: in force; a decision holds from the next call on.
        journal: accounts for them.
    """

    def __init__(self, entries: EntryBook, lists: NumberLists, journal: Journal) -> None:
        self._entries = entries
        self._lists = lists
        self._journal = journal

    def step(self, appeal: Appeal, step: Step, *, who: str, why: str) -> Changed:
        """Open an appeal, or decide it.

        Args:
            appeal: against what.
            step: ``open``, ``grant`` or ``refuse``.
            who: asks or decides.
            why: on what ground.

        Raises:
            StoreError: no such entry or list, nobody appealed, or the disk refused.
        """
        named = ListEntry(
            kind=appeal.kind, number=appeal.number, is_prefix=appeal.is_prefix, who=who, why=why, of_list=appeal.of_list
        )
        if appeal.of_list is not None and step == "open" and not self._is_published(appeal):
            raise StoreError("the number is on no such published list; look it up with: scamtap lists show")
        changed = self._entries.appeal(named, CHANGES[step], who=who, why=why)
        self._lists.replace_entries(self._entries.entries(), self._entries.version)
        body: dict[str, object] = {"reason": appeal.kind, "caller": appeal.number, "who": who, "why": why}
        if appeal.of_list is not None:
            body["lists"] = [f"{appeal.kind}:{appeal.of_list}"]
        self._journal.noted(changed.what, body | {"line": changed.number})
        return changed

    def _is_published(self, appeal: Appeal) -> bool:
        return any(
            bulk.name == appeal.of_list and bulk.kind == appeal.kind and bulk.find(appeal.number) is not None
            for bulk in self._lists.bulk
        )

    def all(self, state: AppealState | None = None) -> list[dict[str, Any]]:
        """Appeals as they stand, of one state or of any, each with its history, oldest first.

        Raises:
            StoreError: the log cannot be read.
        """
        found: dict[tuple[object, ...], dict[str, Any]] = {}
        for changed in self._entries.log():
            entry = changed.entry
            key = (entry.kind, entry.number, entry.is_prefix, entry.of_list)
            if changed.what == "removed" or (changed.what == "added" and key in found):
                found.pop(key, None)
            if changed.what in CHANGES.values():
                held = found.setdefault(key, {"history": []})
                held |= {"kind": entry.kind, "number": f"{entry.number}{'*' * entry.is_prefix}", "list": entry.of_list}
                held["state"] = entry.appeal
                told = {"line": changed.number, "at_s": changed.at_s, "what": changed.what}
                held["history"].append(told | {"who": changed.who, "why": changed.why})
        return [appeal for appeal in found.values() if state in (None, appeal["state"])]
