"""A short message through any SMS gateway that takes an HTTP POST: for subscribers whom nothing can be played to.

The operator's template says what the gateway wants; there is no interface that all of them share.
"""

import re
from typing import Self

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from inference.alerts.ear import Announcement, Reach
from inference.alerts.ears.http import HttpClient, HttpUrl
from inference.alerts.optout import normalise_number
from inference.errors import AlertError

_PLACE = re.compile(r"\{([a-z]+)\}")
PLACES = ("subscriber", "text", "language", "level")


class SmsConfig(BaseModel):
    """One SMS gateway.

    Attributes:
        name: of this way among ``warnings.fallbacks``.
        url: what is posted to.
        headers: sent with it, e.g. an API key.
        user, password: basic authentication, where it wants that.
        form: post an HTML form; else JSON.
        body: fields of the body, with ``{subscriber}``, ``{text}``, ``{language}`` and ``{level}``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="sms", min_length=1, max_length=64)
    url: HttpUrl
    headers: dict[str, SecretStr] = Field(default_factory=dict, max_length=16)
    user: str | None = Field(default=None, max_length=128)
    password: SecretStr | None = None
    form: bool = False
    body: dict[str, str] = Field(default={"to": "{subscriber}", "text": "{text}"}, max_length=32)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together")
        places = {place for value in self.body.values() for place in _PLACE.findall(value)}
        if unknown := sorted(places - set(PLACES)):
            raise ValueError(f"body has an unknown {{{unknown[0]}}}; there are {', '.join(PLACES)}")
        if not {"subscriber", "text"} <= places:
            raise ValueError("body wants {subscriber} and {text}")
        for name, value in self.headers.items():
            if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", name) or not re.fullmatch(
                r"[\x20-\x7e]{0,1024}", value.get_secret_value()
            ):
                raise ValueError("headers wants plain names and values")
        return self


class SmsEar:
    """Sends the line as a message; a beep alone has none.

    Args:
        config: the gateway.
        timeout_s: bound on one request.
        transport: for tests.
    """

    def __init__(
        self, config: SmsConfig, *, timeout_s: float = 2.0, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.name = config.name
        self._config = config
        login = (config.user, config.password) if config.user is not None and config.password is not None else None
        self._http = HttpClient(
            self.name, config.url, auth=login, headers=config.headers, timeout_s=timeout_s, transport=transport
        )

    async def play(self, reach: Reach, announcement: Announcement) -> None:
        """See :class:`inference.alerts.ear.Ear`."""
        number = normalise_number(reach.subscriber.get_secret_value()) if reach.subscriber is not None else ""
        if not re.fullmatch(r"\+?[0-9]{3,20}", number):
            raise AlertError(f"{self.name}: the call came without its subscriber's number")
        if not announcement.text:
            raise AlertError(f"{self.name}: a beep cannot be sent as a message")
        values = {
            "subscriber": number,
            "text": announcement.text,
            "language": announcement.language,
            "level": announcement.level,
        }
        body = {
            field: _PLACE.sub(lambda place: values[place[1]], template)  # once: what was filled in is not looked at
            for field, template in self._config.body.items()
        }
        if self._config.form:
            await self._http.request("POST", "", data=body)
        else:
            await self._http.request("POST", "", json=body)

    async def stop(self, reach: Reach) -> None:
        """A message is sent and done."""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
