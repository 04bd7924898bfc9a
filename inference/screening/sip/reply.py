"""What a proxy is told: a decision as a SIP response.

allow      302 to where the call was going
prompt     302 to where it was going, with what the callee is to be shown
challenge  302 to the operator's challenge service
reject     603 Decline, 607 Unwanted (RFC 8197), 608 Rejected with where to appeal (RFC 8688)
"""

import unicodedata
from dataclasses import dataclass

from inference.gateway.sip.message import Request
from inference.screening.attempt import Decision
from inference.screening.sip.config import SipConfig

MAX_CALL_REASON = 64
"""Characters that a phone shows of ``call-reason`` (RFC 9796 section 5: longer ones may be cut)."""

Fields = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reply:
    """A final response.

    Attributes:
        status: 302, 603, 607 or 608.
        fields: headers.
    """

    status: int
    fields: Fields


def reply_to(request: Request, decision: Decision, config: SipConfig) -> Reply:
    """The response that tells ``decision``."""
    fields: Fields = [
        ("X-ScamTap-Decision", decision.action),
        ("X-ScamTap-Reasons", ",".join(decision.reasons)),
        ("X-ScamTap-Version", f"rules={decision.rules_version};lists={decision.lists_version}"),
    ]
    if decision.lists:
        fields.append(("X-ScamTap-Lists", ",".join(decision.lists)))
    if decision.is_degraded:
        fields.append(("X-ScamTap-Degraded", "yes"))
    if decision.label is not None:
        fields += label_fields(decision)
    if decision.action == "reject":
        return _rejection(request, decision, config, fields)
    if decision.action == "challenge" and config.challenge_uri is not None:
        return _elsewhere(request, config.challenge_uri, fields)
    return Reply(302, [("Contact", f"<{request.uri}>"), *fields])


def open_reply(request: Request) -> Reply:
    """What is answered where no decision could be made: the call goes on."""
    return Reply(
        302,
        [
            ("Contact", f"<{request.uri}>"),
            ("X-ScamTap-Decision", "allow"),
            ("X-ScamTap-Reasons", "NOT_DECIDED"),
            ("X-ScamTap-Degraded", "yes"),
        ],
    )


def label_fields(decision: Decision) -> Fields:
    """What the callee is to be shown, in two forms.

    ``X-ScamTap-Label`` is a quoted string that can stand as display name in From or P-Asserted-Identity. Call-Info is
    rich call data (RFC 9796): no card, so the null URI and the purpose ``jcard`` that its section 5 asks for; at most
    one such header may be in an INVITE, so the proxy removes the caller's own before it adds this one.
    """
    label = decision.label
    if label is None:
        return []
    return [
        ("X-ScamTap-Label", quoted(label.text)),
        ("X-ScamTap-Category", f"{label.category};source={label.source.partition(':')[0]};language={label.language}"),
        ("Call-Info", f"<data:>;purpose=jcard;call-reason={quoted(shortened(label.text))}"),
    ]


def shortened(text: str) -> str:
    """At most :data:`MAX_CALL_REASON` characters, cut between words where there are any."""
    if len(text) <= MAX_CALL_REASON:
        return text
    cut = text[: MAX_CALL_REASON - 1]
    head, space, _ = cut.rpartition(" ")
    return f"{head if space and len(head) > MAX_CALL_REASON // 2 else cut}…"


def quoted(text: str) -> str:
    """A quoted string (RFC 3261 section 25.1) without control and direction characters: nothing in it ends a line."""
    plain = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _rejection(request: Request, decision: Decision, config: SipConfig, fields: Fields) -> Reply:
    status = decision.sip_code or 608
    if status != 608:
        return Reply(status, fields)
    if config.announcement_uri is not None and not _understands_608(request):
        return _elsewhere(request, config.announcement_uri, fields)
    if config.redress_uri is not None:
        fields = [kept for kept in fields if kept[0] != "Call-Info"]
        fields.append(("Call-Info", f"<{config.redress_uri}>;purpose=jwscard"))
    return Reply(608, fields)


def _elsewhere(request: Request, uri: str, fields: Fields) -> Reply:
    return Reply(302, [("Contact", f"<{uri}>"), ("X-ScamTap-Target", f"<{request.uri}>"), *fields])


def _understands_608(request: Request) -> bool:
    """RFC 8688 section 3.3: somebody on the way takes care that the caller is told."""
    return any("+sip.608" in line.lower() for line in request.headers.all("Feature-Caps"))
