"""Settings of screening, composed from its parts, and the parts made from them."""

import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from pydantic import BaseModel, ConfigDict, Field, field_validator

from inference.errors import ConfigError, StoreError
from inference.screening.appeals import Appeals
from inference.screening.backend import Backend, MemoryBackend
from inference.screening.bombing import BombingConfig, BombingDetector
from inference.screening.bulk import load_bulk
from inference.screening.certificates import CertificateCache, load_roots
from inference.screening.entries import PURPOSE, EntryBook
from inference.screening.heard import HeardBook
from inference.screening.journal import Journal, JournalConfig
from inference.screening.labels import Labels, LabelsConfig
from inference.screening.lists import ListEntry, NumberLists
from inference.screening.numbers import Number, read_plan
from inference.screening.passport import PassportVerifier
from inference.screening.redis import RedisBackend, RedisConfig
from inference.screening.reload import ListReloader, signature
from inference.screening.remembered import WindowStore
from inference.screening.rules import RulesConfig
from inference.screening.score import LogisticRisk, load_risk
from inference.screening.screener import Screener
from inference.screening.shared_log import SharedLog
from inference.screening.sip.config import SipConfig
from inference.screening.sqlite import SqliteBackend

log = structlog.get_logger(__name__)

AWAY = "away"
"""Version of list entries that could not be read yet."""


class StirConfig(BaseModel):
    """STIR/SHAKEN.

    Attributes:
        roots: PEM file of the trust anchors of your country.
        certificate_hosts: from which hosts certificates may be fetched.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    roots: Path
    certificate_hosts: tuple[str, ...] = Field(min_length=1)


class RiskConfig(BaseModel):
    """The risk model.

    Attributes:
        path: ``risk.json``; None for the one shipped, which learnt from simulated traffic.
        prior: share of unwanted calls in your network; None for that of the model's training.
        enabled: off: rules and lists alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path | None = None
    prior: float | None = Field(default=None, gt=0, lt=1)
    enabled: bool = True


class ScreeningConfig(BaseModel):
    """Before a call rings.

    Attributes:
        enabled: whether ``scamtap serve`` answers call attempts.
        rules, bombing, labels, risk, journal: see each.
        stir: None where the country has no PASSporTs.
        lists_dir: published lists, as ``scamtap lists import`` leaves them.
        path: SQLite file of memory and list entries; None keeps memory in the process and loses it with it.
        sip: where proxies may ask over SIP; None for HTTP alone.
        redis: memory shared by many workers; takes the place of ``path`` for windows.
        time_zone: of the network, for what is night.
        store_timeout_s: how long a call may wait for the store before it is decided without it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = False
    rules: RulesConfig = RulesConfig()
    journal: JournalConfig = JournalConfig()
    bombing: BombingConfig = BombingConfig()
    labels: LabelsConfig = LabelsConfig()
    risk: RiskConfig = RiskConfig()
    stir: StirConfig | None = None
    sip: SipConfig | None = None
    lists_dir: Path | None = None
    path: Path | None = None
    redis: RedisConfig | None = None
    time_zone: str = "UTC"
    store_timeout_s: float = Field(default=0.02, gt=0, le=1)

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("time_zone is a name of the IANA database, e.g. Asia/Shanghai") from error
        return value


@dataclass(frozen=True, slots=True)
class Screening:
    """Screening, ready to decide.

    Attributes:
        screener: decides.
        store: what is remembered.
        lists: as they are now.
        entries: list entries and their history.
        appeals: against lists.
        journal: what was decided.
        heard: takes what listening heard.
        background: what must run beside it for ever: certificates fetched, memory written.
    """

    screener: Screener
    store: WindowStore
    lists: NumberLists
    entries: EntryBook
    appeals: Appeals
    journal: Journal
    heard: HeardBook
    background: tuple[Callable[[], Coroutine[Any, Any, None]], ...]


def open_screening(
    config: ScreeningConfig,
    exit_stack: AsyncExitStack,
    *,
    clock: Callable[[], float] = time.time,
    on_shield: Callable[[Number], None] = lambda _callee: None,
) -> Screening:
    """Make everything that ``config`` asks for; closed with ``exit_stack``.

    Args:
        config: the settings.
        exit_stack: closes it.
        clock: seconds since the epoch.
        on_shield: told the callee when an attack was noticed and is on the journal; must not wait.

    Raises:
        ConfigError: a file is missing or malformed, or another worker has the store.
    """
    background: list[Callable[[], Coroutine[Any, Any, None]]] = []
    backend: Backend
    if config.redis is not None:
        backend = RedisBackend(config.redis)
    elif config.path is not None:
        backend = SqliteBackend(config.path, clock=clock)
        background.append(backend.keep_writing)
    else:
        backend = MemoryBackend(clock=clock)
    store = WindowStore(backend)
    exit_stack.push_async_callback(store.aclose)
    journal = Journal(config.journal, clock=clock)
    exit_stack.push_async_callback(journal.aclose)
    background.append(journal.keep_writing)
    entries = open_entries(config, clock)
    exit_stack.callback(entries.close)
    seen = signature(config.lists_dir)  # first: what changes meanwhile is read once more
    held, version = _held(entries)
    bulk = load_bulk(config.lists_dir) if config.lists_dir is not None else []
    lists = NumberLists(held, bulk, entries_version=version, clock=clock)
    reloader = ListReloader(lists, entries, config.lists_dir, seen)
    background.append(reloader.run)
    passports = None
    if config.stir is not None:
        certificates = CertificateCache(config.stir.certificate_hosts)
        exit_stack.push_async_callback(certificates.aclose)
        background.append(certificates.run)
        passports = PassportVerifier(load_roots(config.stir.roots), certificates, clock)
    labels = Labels(config.labels)
    read_plan(config.rules.region)

    def shielded(callee: Number) -> None:
        journal.shielded(callee)
        on_shield(callee)

    screener = Screener(
        config.rules,
        lists,
        store,
        passports=passports,
        model=LogisticRisk(load_risk(config.risk.path), config.risk.prior) if config.risk.enabled else None,
        bursts=BombingDetector(config.bombing),
        labels=labels,
        time_zone=config.time_zone,
        store_timeout_s=config.store_timeout_s,
        clock=clock,
        on_decision=journal.decided,
        on_shield=shielded,
    )
    heard = HeardBook(store, journal, labels, region=config.rules.region, time_zone=config.time_zone)
    appeals = Appeals(entries, lists, journal)
    return Screening(screener, store, lists, entries, appeals, journal, heard, tuple(background))


def open_entries(config: ScreeningConfig, clock: Callable[[], float] = time.time) -> EntryBook:
    """The book of list entries that ``config`` names: in Redis, in a file, or in the process.

    Raises:
        ConfigError: the file cannot be used.
    """
    if config.redis is not None and config.redis.share_lists:
        return EntryBook(SharedLog(config.redis, PURPOSE), clock=clock)
    return EntryBook(_entries_path(config), clock=clock)


def _held(entries: EntryBook) -> tuple[list[ListEntry], str]:
    """Entries and their version, none where they are away: calls go on, and the reloader takes them over later."""
    try:
        version = entries.version
        return entries.entries(), version
    except StoreError as error:
        log.error("list entries not read: calls are decided without until they are", why=str(error))
        return [], AWAY


def _entries_path(config: ScreeningConfig) -> Path | None:
    if config.path is None:
        return None
    if config.path.suffix == ".entries":
        raise ConfigError("screening.path must not end in .entries: list entries are kept beside it under that name")
    return config.path.with_suffix(".entries")
