"""The ways back to subscribers that a configuration asks for."""

from typing import Self

from pydantic import model_validator

from inference.alerts.ear import Ear
from inference.alerts.ears.asterisk import AsteriskConfig, AsteriskEar
from inference.alerts.ears.freeswitch import FreeswitchConfig, FreeswitchEar
from inference.alerts.ears.http import HttpUrl, Sounds
from inference.alerts.ears.jambonz import JambonzConfig, JambonzEar
from inference.alerts.ears.sip import SipMessageConfig, SipMessageEar
from inference.alerts.ears.sms import SmsConfig, SmsEar
from inference.alerts.ears.twilio import TwilioConfig, TwilioEar
from inference.alerts.warner import WarnerConfig


class WarningsConfig(WarnerConfig):
    """What subscribers hear, and by which ways; none is used that is not configured.

    Attributes:
        sounds_url: where gateways find ``<name>.wav``: our ``/v1/announcements``, or a copy on a server of the
            operator's.
        asterisk, freeswitch, jambonz, twilio, sip, sms: the ways. rtpengine's comes with its gateway.
    """

    sounds_url: HttpUrl | None = None
    asterisk: AsteriskConfig | None = None
    freeswitch: FreeswitchConfig | None = None
    jambonz: JambonzConfig | None = None
    twilio: TwilioConfig | None = None
    sip: SipMessageConfig | None = None
    sms: SmsConfig | None = None

    @model_validator(mode="after")
    def _ways_fit_together(self) -> Self:
        ways = [self.asterisk, self.freeswitch, self.jambonz, self.twilio, self.sip, self.sms]
        names = [way.name for way in ways if way is not None]
        if len(set(names)) < len(names):
            raise ValueError("two ways have one name: give each its own")
        if unknown := [name for name in self.fallbacks if name not in names]:
            raise ValueError(f"fallbacks names {unknown[0]!r}, which is not configured under warnings")
        fetches = {
            "asterisk": self.asterisk is not None and "{url}" in self.asterisk.media,
            "freeswitch": self.freeswitch is not None and "{url}" in self.freeswitch.file,
            "jambonz": self.jambonz is not None and not self.jambonz.speak,
            "twilio": self.twilio is not None,
        }
        if self.sounds_url is None and (lacking := [way for way, does in fetches.items() if does]):
            raise ValueError(f"{lacking[0]} fetches sounds by their address: set sounds_url")
        return self


def make_ears(config: WarningsConfig) -> list[Ear]:
    """The configured ways; none connects before it is needed."""
    sounds, timeout_s = Sounds(config.sounds_url), config.play_timeout_s
    ears: list[Ear] = []
    if config.asterisk is not None:
        ears.append(AsteriskEar(config.asterisk, sounds, timeout_s=timeout_s))
    if config.freeswitch is not None:
        ears.append(FreeswitchEar(config.freeswitch, sounds, timeout_s=timeout_s))
    if config.jambonz is not None:
        ears.append(JambonzEar(config.jambonz, sounds, timeout_s=timeout_s))
    if config.twilio is not None:
        ears.append(TwilioEar(config.twilio, sounds, timeout_s=timeout_s))
    if config.sip is not None:
        ears.append(SipMessageEar(config.sip, timeout_s=timeout_s))
    if config.sms is not None:
        ears.append(SmsEar(config.sms, timeout_s=timeout_s))
    return ears
