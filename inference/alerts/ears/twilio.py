"""Twilio: an announcement to one participant of a conference.

Written from twilio.com/docs, "Conferences: Participants subresource": POST with ``AnnounceUrl``, basic authentication.
Only a call that is bridged by a conference has a party to talk to alone: updating a plain call (``<Dial>``) would run
new TwiML instead of the call. So ``reach.call`` is the conference's sid and ``reach.ear`` the call sid of the
subscriber. Nothing published stops an announcement that plays.
"""

import re

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from inference.alerts.ear import Announcement, Reach
from inference.alerts.ears.http import HttpClient, HttpUrl, Sounds
from inference.errors import AlertError

_CONFERENCE, _CALL = re.compile(r"CF[0-9a-fA-F]{32}"), re.compile(r"CA[0-9a-fA-F]{32}")


class TwilioConfig(BaseModel):
    """One Twilio account, or one that speaks its interface.

    Attributes:
        name: of this way in ``reach.via`` of its calls.
        url: of the REST interface.
        account_sid: of the account.
        api_key: user of the login; the account itself where left out.
        secret: auth token, or the key's secret.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="twilio", min_length=1, max_length=64)
    url: HttpUrl = "https://api.twilio.com"
    account_sid: str = Field(pattern=r"^AC[0-9a-fA-F]{32}$")
    api_key: str | None = Field(default=None, pattern=r"^SK[0-9a-fA-F]{32}$")
    secret: SecretStr


class TwilioEar:
    """Announces through one Twilio account; Twilio fetches the sound from ``warnings.sounds_url``.

    Args:
        config: the account.
        sounds: where Twilio fetches sounds.
        timeout_s: bound on one request.
        transport: for tests.
    """

    def __init__(
        self,
        config: TwilioConfig,
        sounds: Sounds,
        *,
        timeout_s: float = 2.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = config.name
        self._path = f"/2010-04-01/Accounts/{config.account_sid}/Conferences"
        self._sounds = sounds
        login = (config.api_key or config.account_sid, config.secret)
        self._http = HttpClient(self.name, config.url, auth=login, timeout_s=timeout_s, transport=transport)

    async def play(self, reach: Reach, announcement: Announcement) -> None:
        """See :class:`inference.alerts.ear.Ear`."""
        conference = reach.call.get_secret_value() if reach.call is not None else ""
        call = reach.ear.get_secret_value() if reach.ear is not None else ""
        if not _CONFERENCE.fullmatch(conference) or not _CALL.fullmatch(call):
            raise AlertError(f"{self.name}: the call came without the sids of a conference and of its subscriber")
        url = self._sounds.media("{url}", announcement)
        if not url:
            raise AlertError(f"{self.name} cannot fetch sounds: set warnings.sounds_url")
        path = f"{self._path}/{conference}/Participants/{call}.json"
        await self._http.request("POST", path, data={"AnnounceUrl": url, "AnnounceMethod": "GET"})

    async def stop(self, reach: Reach) -> None:  # noqa: ARG002
        """See :class:`inference.alerts.ear.Ear`; an announcement comes to its own end, seconds later."""
        raise AlertError(f"{self.name} has no way to stop an announcement")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
