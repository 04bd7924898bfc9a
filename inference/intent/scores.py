"""What one utterance says about the call: scam evidence, family, stage and acts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

FAMILIES = (
    "authority",  # police, court, immigration, 公检法
    "bank_safe_account",  # move the money to keep it safe
    "card_otp",  # card blocked, read me the code
    "refund",  # overpaid, refund, subscription renewal
    "tech_support",  # virus, remote access
    "parcel",  # courier, customs
    "tax",  # tax office, back taxes
    "benefits",  # social security, medicare, pension
    "family_emergency",  # grandchild, friend in trouble, 冒充熟人
    "loan",  # advance-fee loan, debt relief
    "investment",  # crypto, trading platform
    "prize",  # lottery, sweepstakes
    "utility",  # power cut off today
    "gift_card",  # boss or agency wants gift cards
    "job",  # task scam, work from home
    "romance",  # met online, needs money
    "warranty",  # car warranty, insurance robocalls
    "other",
)
"""Scam families. The label of a genuine call is none of them."""

STAGES = ("contact", "authority", "lure", "isolation", "ask", "reassure")
"""Acts of an utterance, several may hold at once.

``contact``: opens, names a pretext. ``authority``: claims power or proves itself with details. ``lure``: threat,
loss, urgency, or gain. ``isolation``: secrecy, stay on the line, do not call back or talk to anyone. ``ask``: the
payment, code, credential, remote access or move of money. ``reassure``: what genuine callers do: says never to
share codes, invites to hang up and call the published number, offers time, asks for nothing.
"""


@dataclass(frozen=True, slots=True)
class Weighed:
    """What an utterance's evidence is made of, in nats, so that an act shown before is not counted in full again.

    Attributes:
        base: of the words as a whole.
        acts: of each act that it shows; never of the other sign than the act's own.
        ceiling: it adds no more: less where it is bare.
        limit: no utterance takes more.
        is_bare: whether it is of the far leg and shows no act of a scam.
    """

    base: float
    acts: Mapping[str, float]
    ceiling: float
    limit: float
    is_bare: bool = False

    def total(self, held: Mapping[str, float], repeat: float) -> float:
        """Evidence of the utterance.

        Args:
            held: per act, the most that the call has shown of it so far.
            repeat: share that what was shown already counts for.
        """
        value = self.base
        for act, part in self.acts.items():
            shown_before = min(abs(part), abs(held.get(act, 0.0)))
            value += math.copysign(abs(part) - (1 - repeat) * shown_before, part)
        return min(self.ceiling, max(-self.limit, value))

    def note(self, held: dict[str, float]) -> None:
        """Remember in ``held`` what the utterance shows, where the call has not shown it as surely before."""
        for act, part in self.acts.items():
            if abs(part) > abs(held.get(act, 0.0)):
                held[act] = part


@dataclass(frozen=True, slots=True)
class IntentScores:
    """Scores of one utterance in the context of what was said before it.

    Attributes:
        llr: calibrated natural-log likelihood ratio, scam against genuine, that this utterance adds if no act of it was
            shown before.
        families: probability per scam family given that the call is a scam; sums to 1.
        stages: independent probability per stage.
        acts: independent probability per act of its leg (:mod:`inference.intent.acts`); none if the model knows none.
        weighed: what ``llr`` is made of; None where it is no evidence or is not known.
    """

    llr: float
    families: Mapping[str, float]
    stages: Mapping[str, float]
    acts: Mapping[str, float] = field(default_factory=dict)
    weighed: Weighed | None = None

    def plus(self, nats: float) -> "IntentScores":
        """The same with evidence from elsewhere added, as if the words as a whole had said it."""
        weighed = None if self.weighed is None else replace(self.weighed, base=self.weighed.base + nats)
        return replace(self, llr=self.llr + nats if weighed is None else weighed.total({}, 1.0), weighed=weighed)
