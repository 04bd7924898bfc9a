"""Opinions for commands that wait for them: ``scamtap replay`` and ``scamtap score``."""

import contextlib
from collections import Counter
from collections.abc import Iterator

from rich.console import Console

from inference.opinion.answer import Answer
from inference.opinion.client import WaitingClient
from inference.opinion.config import OpinionConfig
from inference.opinion.question import Question


class Asked:
    """Asks, waits, and counts what came of it.

    Args:
        config: bounds.
        client: the endpoint of ``config``.
    """

    def __init__(self, config: OpinionConfig, client: WaitingClient) -> None:
        self.config = config
        self.outcomes: Counter[str] = Counter()
        self._client = client

    @property
    def is_paused(self) -> bool:
        """Whether asking is no use now."""
        return self._client.is_paused

    def ask(self, question: Question) -> Answer:
        """The answer, however bad; never an exception."""
        answer = self._client.ask(question)
        self.outcomes[answer.outcome] += 1
        return answer

    def summary(self) -> str:
        """One line: how many questions, and what came of them."""
        came = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())
        return f"{self.outcomes.total()} opinion(s) asked for: {came}"


@contextlib.contextmanager
def asked(config: OpinionConfig, console: Console) -> Iterator[Asked | None]:
    """Whom to ask while a command runs; None where no endpoint is configured.

    Args:
        config: whom.
        console: told at the end where a question was not answered: figures without the opinions are others.

    Raises:
        ConfigError: the key's variable is not set, or a certificate cannot be read.
    """
    if not config.is_on:
        yield None
        return
    with WaitingClient(config) as client:
        opinions = Asked(config, client)
        yield opinions
        if set(opinions.outcomes) - {"answered"}:
            console.print(opinions.summary(), style="dim", markup=False)
