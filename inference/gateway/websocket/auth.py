"""Whether a connection may be believed: a token, or the signature of the service that opens it."""

import base64
import binascii
import hmac
from collections.abc import Mapping


def has_token(token: str, authorization: str | None, query: Mapping[str, str]) -> bool:
    """Whether a request carries the token.

    Args:
        token: which.
        authorization: the header, hostile: ``Bearer TOKEN``, or ``Basic`` with the token as its password.
        query: parameters of the URL: ``token``.
    """
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return False
    elif scheme.lower() != "bearer":
        given = query.get("token", "")
    return is_token(token, given)


def is_token(token: str, given: str) -> bool:
    """Whether ``given`` is the token; takes as long whichever of its characters is wrong."""
    return hmac.compare_digest(token.encode(), given.encode("utf-8", "surrogatepass"))


def is_signed_by_twilio(auth_token: str, url: str, signature: str | None) -> bool:
    """Whether ``X-Twilio-Signature`` is that of a WebSocket to ``url``: base64 of HMAC-SHA1 over it, no parameters.

    Twilio signs the URL as configured, or with a slash behind it. twilio.com/docs/usage/webhooks/webhooks-security
    """
    given = (signature or "").encode("utf-8", "surrogatepass")
    found = False
    for form in (url.rstrip("/"), url.rstrip("/") + "/"):
        digest = hmac.digest(auth_token.encode(), form.encode(), "sha1")
        found |= hmac.compare_digest(base64.b64encode(digest), given)
    return found
