"""jambonz, by live call control: a ``whisper`` to the subscriber's call.

Written from docs.jambonz.org, "REST Call Control: update a call": PUT with a ``play`` or ``say`` verb, bearer token.
The whisper is heard by the party whose call_sid is in the address. Nothing published stops one that plays.
"""

import uuid
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from inference.alerts.ear import Announcement, Reach
from inference.alerts.ears.http import HttpClient, HttpUrl, Sounds
from inference.errors import AlertError


class JambonzConfig(BaseModel):
    """One jambonz account.

    Attributes:
        name: of this way in ``reach.via`` of its calls.
        url: of its REST interface, e.g. ``https://api.jambonz.example/v1``.
        account_sid, api_key: of the account.
        speak: have jambonz speak the line with its own voice; off, it fetches our sound.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="jambonz", min_length=1, max_length=64)
    url: HttpUrl
    account_sid: uuid.UUID
    api_key: SecretStr
    speak: bool = False


class JambonzEar:
    """Whispers through one jambonz.

    Args:
        config: where it is.
        sounds: where it fetches sounds.
        timeout_s: bound on one request.
        transport: for tests.
    """

    def __init__(
        self,
        config: JambonzConfig,
        sounds: Sounds,
        *,
        timeout_s: float = 2.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = config.name
        self._config = config
        self._sounds = sounds
        token = SecretStr("Bearer " + config.api_key.get_secret_value())
        self._http = HttpClient(
            self.name, config.url, headers={"Authorization": token}, timeout_s=timeout_s, transport=transport
        )

    async def play(self, reach: Reach, announcement: Announcement) -> None:
        """See :class:`inference.alerts.ear.Ear`."""
        secret = reach.ear or reach.call
        try:
            call_sid = uuid.UUID(secret.get_secret_value() if secret is not None else "")
        except ValueError:
            raise AlertError(f"{self.name}: the call came without its subscriber's call_sid") from None
        verb: dict[str, Any] = {"verb": "play", "url": self._sounds.media("{url}", announcement)}
        if self._config.speak and announcement.text:
            verb = {"verb": "say", "text": announcement.text}
        elif not verb["url"]:
            raise AlertError(f"{self.name} cannot fetch sounds: set warnings.sounds_url")
        path = f"/Accounts/{self._config.account_sid}/Calls/{call_sid}"
        await self._http.request("PUT", path, json={"whisper": verb})

    async def stop(self, reach: Reach) -> None:  # noqa: ARG002
        """See :class:`inference.alerts.ear.Ear`; a whisper comes to its own end, seconds later."""
        raise AlertError(f"{self.name} has no way to stop a whisper")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
