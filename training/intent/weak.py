"""Acts of outside scam texts, guessed by rules: nobody marked stages in those.

Without them the stage heads know acts only from the tidy sentences of our scripts and stay silent on robocalls and on
the rambling of real callers. A rule is narrow on purpose: it names words that hardly say anything else (on generated
genuine dialogues some rule fires on 6 of 100 utterances, ``ask`` and ``isolation`` on fewer than 1). A piece on which
none fires is not labelled at all, rather than labelled with no act.
"""

import re

_SECRETS = (
    "card|account|routing|social(?: security)?|pin|security|serial|reference|verification|activation|gift|redeem|access"
)
_OFFICES = (
    "officer|agent|department|federal|internal revenue|irs|social security|microsoft|windows|amazon|apple|paypal"
    r"|customs|police|investigat\w+|inspector|bank|visa|mastercard|treasury|attorney|legal|law firm|fraud"
)

RULES: dict[str, tuple[str, ...]] = {
    "contact": (
        "this (?:call|message) is",
        "calling (?:from|you|about|to|in|regarding|in regards?)",
        "the reason (?:for|of|behind) (?:this|my|the) call",
        "in regards? to",
        "this is (?:an important|a courtesy|a final|your)",
    ),
    "authority": (
        "(?:badge|employee|agent|officer) (?:id|number)",
        f"(?:this is|my name is|i am|i'm|calling from|behalf of) .{{0,50}}(?:{_OFFICES})",
        "(?:case|file|docket|reference) (?:number|id)",
    ),
    "lure": (
        "arrest(?:ed)?",
        "warrant (?:for|out|on|is|has|issued|against)",
        "lawsuit|jail|prison|deport(?:ed|ation)?",
        "legal (?:action|proceedings?|consequences)",
        "suspended|frozen|unauthori[sz]ed|compromised|hacked|hackers?|virus(?:es)?",
        r"suspicious (?:activit\w+|transaction)",
        "disconnect(?:ed|ion) (?:of|within|today|in)",
        "final (?:notice|attempt|call)|last chance",
        "(?:about to|will|has|have) expired?",
        "you(?:'ve| have)? (?:just )?(?:been (?:selected|approved|chosen|awarded|pre ?approved)|won|qualif(?:y|ied))",
        "you are (?:eligible|the winner|entitled)|congratulations|pre ?approved",
        "free (?:gift|trip|cruise|vacation|medical|brace)",
        r"(?:lower|reduce) your (?:\w+ ){0,3}(?:interest|rate|bill|payment|debt)s?|loan forgiveness",
    ),
    "isolation": (
        "(?:don'?t|do not|never|not to|can'?t|cannot) .{0,25}(?:hang up|disconnect|discuss|inform)",
        "(?:don'?t|do not|never|not to|can'?t|cannot) .{0,25}tell (?:anyone|anybody|them|him|her|your)",
        "(?:don'?t|do not|never|not to|can'?t|cannot) .{0,25}(?:share (?:this|it)|talk to (?:any|your))",
        "(?:stay|remain|keep me|be) on the (?:line|phone)",
        "confidential|between (?:you and me|us)",
        "keep (?:this|it) (?:a )?(?:secret|private|quiet)",
    ),
    "ask": (
        r"(?:give|tell|read|provide|verify|confirm|enter|send|need|what's|what is) (?:me |us |with |out )*"
        rf"(?:your|the) (?:\w+ ){{0,3}}(?:{_SECRETS})(?: card)? ?(?:numbers?|codes?|details|information|pin)?",
        "(?:press|dial|push) (?:the number |number )?(?:one|1|two|2)",
        "call (?:us |me )?(?:back )?(?:immediately|right away|as soon as possible|today|now)",
        r"(?:call|return (?:the |this )?call) .{0,40}at (?:1|one|\d{3}\d*)",
        "(?:buy|purchase|get|pick up|scratch) .{0,40}(?:gift|google play|itunes|steam|target|ebay|prepaid) ?cards?",
        "any ?desk|team ?viewer|ultra ?viewer|quick ?assist|screen ?share|remote (?:access|support|session)",
        "windows (?:key|button)|scratch (?:off|the)",
        "(?:send|wire|transfer|deposit|pay|withdraw) .{0,40}(?:dollars|money|cash|amount|fee|fine|payment|funds)",
        "bitcoin|western union|moneygram|zelle",
    ),
}
_COMPILED = {stage: re.compile(rf"\b(?:{'|'.join(rules)})\b") for stage, rules in RULES.items()}


def weak_stages(text: str) -> tuple[str, ...] | None:
    """Acts that the words of a scam caller surely show; None where no rule fires, which is not the same as no act."""
    lowered = text.lower().replace("’", "'")
    return tuple(stage for stage, pattern in _COMPILED.items() if pattern.search(lowered)) or None
