"""The redirect server: an INVITE in, one final answer out. Whatever goes wrong inside, the call goes on."""

import asyncio
import socket
from collections import Counter
from typing import Protocol

import structlog

from inference.gateway.sip.agent import Agent
from inference.gateway.sip.application import AgentConfig
from inference.gateway.sip.flow import Datagrams, Flow, StreamServer, open_datagrams, open_stream_server
from inference.gateway.sip.message import Request
from inference.gateway.sip.transaction import ServerTransaction
from inference.gateway.siprec.admission import AllowList
from inference.screening.attempt import CallAttempt, Decision
from inference.screening.sip.config import SipConfig
from inference.screening.sip.question import Questions
from inference.screening.sip.reply import Reply, open_reply, reply_to

log = structlog.get_logger(__name__)

NOT_OURS = (
    "100rel", "answermode", "early-session", "from-change", "gruu", "histinfo", "norefersub", "path", "precondition",
    "replaces", "resource-priority", "sec-agree", "tdialog", "timer", "uui",
)  # fmt: skip
"""Extensions that an INVITE may require of whoever takes the call. A redirect takes none, so it breaks none."""


RECEIVE_BUFFER_BYTES = 4_194_304
"""A second of questions at 2,000 a second; the kernel grants what ``net.core.rmem_max`` allows."""


class Decides(Protocol):
    """:class:`inference.screening.screener.Screener`, as far as it is asked here.

    Attributes:
        waits: whether a decision may have to wait; where not, it is made in one go.
    """

    @property
    def waits(self) -> bool:
        """See above."""
        ...

    async def decide(self, attempt: CallAttempt) -> Decision:
        """What is done with an attempt."""
        ...


class RedirectServer:
    """Answers proxies; implements :class:`inference.gateway.sip.application.Application`.

    Args:
        config: see there.
        screener: decides.

    Attributes:
        counts: answers by decision, and ``not decided``; what the SIP layer refused is in ``agent.counts``.
    """

    def __init__(self, config: SipConfig, screener: Decides) -> None:
        self.config = config
        self._screener = screener
        self._questions = Questions(config)
        self._allowed = AllowList(config.allow_from)
        self._datagrams: Datagrams | None = None
        self._streams: tuple[asyncio.Server, StreamServer] | None = None
        self._deciding: set[asyncio.Task[Decision]] = set()
        self._is_failing = False
        self.counts: Counter[str] = Counter()
        self.agent: Agent

    @property
    def address(self) -> tuple[str, int]:
        """Listened on."""
        if self._datagrams is None:
            return self.config.host, self.config.port
        return self._datagrams.local

    @property
    def num_turned_away(self) -> int:
        """Datagrams and connections from hosts that may not ask, or beyond the bounds."""
        by_datagram = 0 if self._datagrams is None else self._datagrams.num_turned_away
        return by_datagram + (0 if self._streams is None else self._streams[1].num_turned_away)

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        self.agent = Agent(self, loop, self.agent_config())
        is_shared = self.config.reuse_port
        self._datagrams = await open_datagrams(
            self.config.host, self.config.port, self.agent.receive, self._allowed, reuse_port=is_shared
        )
        self._datagrams.socket.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES
        )
        if self.config.tcp:
            streams = StreamServer(loop, self._allowed, self.config.max_connections)
            server = await open_stream_server(
                self.config.host, self.address[1], self.agent.receive, streams, reuse_port=is_shared
            )
            self._streams = (server, streams)
        log.info("screening answers SIP", host=self.address[0], port=self.address[1], tcp=self.config.tcp)

    def agent_config(self) -> AgentConfig:
        """Who we say we are."""
        return AgentConfig(extensions=NOT_OURS, max_transactions=self.config.max_transactions, max_sessions=1)

    def admit(self, request: Request, flow: Flow) -> None:
        """Whom the sockets let in may ask."""

    def probed(self) -> int:
        """To an OPTIONS that asks whether we live."""
        return 200

    def invited(self, transaction: ServerTransaction) -> None:
        """A call attempt: decided at once, or beside the sockets and answered by :meth:`_decided`."""
        incoming = transaction.incoming
        attempt = self._questions.attempt(incoming.request, incoming.flow.peer[0])
        if not self._screener.waits:
            # A task and a deadline of its own would cost a tenth of the whole question, for nothing.
            self._answer(transaction, self._decide_now(attempt))
            return
        task = asyncio.get_running_loop().create_task(self._decide(attempt))
        self._deciding.add(task)
        task.add_done_callback(lambda done: self._decided(transaction, done))
        transaction.on_cancel = lambda: _cancel(task)

    def _decide_now(self, attempt: CallAttempt) -> Decision | None:
        deciding = self._screener.decide(attempt)
        try:
            deciding.send(None)
        except StopIteration as done:
            decision: Decision = done.value
            return decision
        except Exception as error:  # noqa: BLE001 -- whatever breaks inside, the telephone rings
            self._note(error)
            return None
        deciding.close()
        self._note(RuntimeError("it waits after all"))
        return None

    async def _decide(self, attempt: CallAttempt) -> Decision:
        async with asyncio.timeout(self.config.answer_within_s):
            return await self._screener.decide(attempt)

    def _decided(self, transaction: ServerTransaction, task: "asyncio.Task[Decision]") -> None:
        self._deciding.discard(task)
        if task.cancelled() or task.exception() is not None:
            self._note(None if task.cancelled() else task.exception())
            self._answer(transaction, None)
        else:
            self._answer(transaction, task.result())

    def _answer(self, transaction: ServerTransaction, decision: Decision | None) -> None:
        """Say what was decided; that the call goes on, where nothing was."""
        if transaction.is_answered:  # taken back meanwhile
            return
        request = transaction.incoming.request
        if decision is None:
            self.counts["not decided"] += 1
            answer: Reply = open_reply(request)
        else:
            self._is_failing = False
            self.counts[decision.action] += 1
            answer = reply_to(request, decision, self.config)
        transaction.respond(answer.status, answer.fields)

    def _note(self, error: BaseException | None) -> None:
        """Say once that calls go through undecided; by kind alone, since a message may hold what came in."""
        if error is not None and not self._is_failing:
            self._is_failing = True
            log.error("screening over SIP cannot decide: calls go through", kind=type(error).__name__)

    async def aclose(self) -> None:
        """Answer what waits, then close the sockets."""
        if self._streams is not None:
            self._streams[0].close()
        if self._deciding:
            await asyncio.wait(self._deciding, timeout=self.config.answer_within_s)
        if self._datagrams is not None:
            await self.agent.aclose(0)
            self._datagrams.socket.close()
        if self._streams is not None:
            self._streams[1].close()


def _cancel(task: "asyncio.Task[Decision]") -> None:
    task.cancel()
