"""What one utterance says about the call: scam evidence, family and stage."""

from collections.abc import Mapping
from dataclasses import dataclass

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
class IntentScores:
    """Scores of one utterance in the context of what was said before it.

    Attributes:
        llr: calibrated natural-log likelihood ratio, scam against genuine, that this utterance adds.
        families: probability per scam family given that the call is a scam; sums to 1.
        stages: independent probability per stage.
    """

    llr: float
    families: Mapping[str, float]
    stages: Mapping[str, float]
