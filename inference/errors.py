"""Every error ScamTap raises on purpose, as one tree.

    ScamTapError
    ├── ConfigError          a setting is missing, unknown or contradicts another
    ├── MediaError           a recording or capture cannot be read as call audio
    │   └── CodecError       it can, but its codec is not one we decode
    ├── PacketError          bytes are not the packet they should be (also a ValueError)
    ├── WeightsError         model weights are missing, corrupt or cannot be fetched
    ├── SignallingError      a message of a gateway is not what its protocol says (also a ValueError)
    │   └── RefusedError     a SIP request is answered with an error (gateway.sip.message: holds the status)
    ├── GatewayError         a gateway refused a request or did not answer
    ├── EngineError          an inference engine refused or failed a request
    ├── CapacityError        a bounded table or queue is full
    ├── StoreError           what is remembered between calls cannot be reached
    └── AlertError           an alert could not be kept or delivered
        └── SinkDownError    whatever were to be delivered: the receiving system is away

A message is one line: what was wrong, where, and what to do about it. It never holds what a caller said,
nor a SIP header: both are hostile text and personal data. The command line prints the message and exits
with ``exit_code``; the packet plane never raises, it counts and drops.
"""


class ScamTapError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class ConfigError(ScamTapError):
    """A setting is missing, unknown or contradicts another."""

    exit_code = 2


class MediaError(ScamTapError):
    """A recording or capture cannot be read as call audio."""


class CodecError(MediaError):
    """The audio is there, in a codec we do not decode."""


class PacketError(ScamTapError, ValueError):
    """Bytes are not the packet they should be; the message names the exact field."""


class WeightsError(ScamTapError):
    """Model weights are missing, corrupt or cannot be fetched."""


class SignallingError(ScamTapError, ValueError):
    """A message of a gateway is not what its protocol says; the message names the field, never its value."""


class GatewayError(ScamTapError):
    """A gateway refused a request or did not answer."""


class EngineError(ScamTapError):
    """An inference engine refused or failed a request."""


class CapacityError(ScamTapError):
    """A bounded table or queue is full."""


class StoreError(ScamTapError):
    """What is remembered between calls cannot be reached; calls go through meanwhile."""


class AlertError(ScamTapError):
    """An alert could not be kept or delivered."""


class SinkDownError(AlertError):
    """The receiving system is away, or takes nothing; the delivery itself is not at fault."""
