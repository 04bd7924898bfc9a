"""Which rtpengine nodes fork to us, and how."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from inference.gateway.spec import CodecName

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")]


class NodeConfig(BaseModel):
    """One rtpengine daemon.

    Attributes:
        name: how logs and the control API call it.
        address: host and port of its ``listen-ng``, or of its ``listen-tcp-ng``. The ng protocol has no password: it
            belongs on loopback or a private network.
        transport: ``udp`` suffices up to about 800 calls a node and sounds of 8 s; ``tcp`` has no such bounds.
        encoding: ``bencode`` is spoken by all, ``json`` by newer ones (10.5 does) and read here at half the cost.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Label = "rtpengine"
    address: str = Field(default="127.0.0.1:2223", max_length=256)
    transport: Literal["udp", "tcp"] = "udp"
    encoding: Literal["bencode", "json"] = "bencode"

    @field_validator("address")
    @classmethod
    def _has_a_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
            raise ValueError("address is host:port of the node's listen-ng, e.g. 10.0.0.5:2223")
        return value

    @model_validator(mode="after")
    def _json_over_udp(self) -> Self:
        if self.transport == "tcp" and self.encoding == "json":
            raise ValueError("over TCP rtpengine takes bencode alone")
        return self

    @property
    def host_and_port(self) -> tuple[str, int]:
        """``address``, taken apart."""
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)


class RtpengineConfig(BaseModel):
    """How calls on rtpengine are found, forked and warned.

    Attributes:
        nodes: the daemons. Only these are ever spoken to; no request can name another host.
        discover: find calls by their labels: ``far_label`` on one party, ``near_label`` on the subscriber; calls
            without them are left alone. Off, calls come by the control API alone.
        far_label, near_label: what the proxy gives as ``label=`` of ``rtpengine_offer`` and ``rtpengine_answer``.
        tag: our own tag within a call; two installations that listen to one node need two.
        poll_s: how often nodes are asked for their calls.
        check_s: how often each call is asked whether its codecs and our subscription are still the same.
        max_listed: bound on calls asked for at once. A node with more is followed by the control API.
        timeout_s: for an answer to one request; it is repeated within this time.
        native_codecs: taken as they are; calls with any other are transcoded to PCMA by the node, a cost there.
        srtp: have the fork encrypted (SDES).
        latch: the node's address is translated on its way to us: every leg gets an exclusive media port and the first
            to send there is believed.
        caller_while_warning: ``held``: the caller is blocked while the subscriber hears a warning, and let go after it,
            by a process of its own should we die. What that cannot outlive is a host without power: the caller then
            stays blocked until a ScamTap comes back, or to the call's end. ``heard``: nothing is ever blocked, and
            the node sends caller and warning at once, as two SSRCs. Phones differ in what they make of it; baresip
            1.0 played nothing of the warning. Right for nodes that mix by themselves (``audio-player``, mr11.3 on).
        sounds: folder on the nodes with the operator's recordings, ``<name>.wav``, each with 0.2 s of silence at its
            end; None to send the sound along.
        worker, num_workers: share of the calls that this worker takes, ``worker`` from 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    nodes: tuple[NodeConfig, ...] = Field(default=(NodeConfig(),), min_length=1, max_length=64)
    discover: bool = True
    far_label: Label = "far"
    near_label: Label = "near"
    tag: Label = "scamtap"
    poll_s: float = Field(default=1.0, ge=0.05, le=60)
    check_s: float = Field(default=10.0, ge=0.1, le=600)
    max_listed: int = Field(default=10_000, ge=1, le=100_000)
    timeout_s: float = Field(default=1.0, gt=0, le=10)
    native_codecs: tuple[CodecName, ...] = ("PCMU", "PCMA")
    srtp: bool = False
    latch: bool = False
    caller_while_warning: Literal["held", "heard"] = "held"
    sounds: str | None = Field(default=None, max_length=256)
    worker: int = Field(default=0, ge=0)
    num_workers: int = Field(default=1, ge=1, le=256)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len({node.name for node in self.nodes}) != len(self.nodes):
            raise ValueError("two nodes have one name: give each its own")
        if self.far_label == self.near_label:
            raise ValueError("far_label and near_label must differ")
        if self.worker >= self.num_workers:
            raise ValueError("worker counts from 0 to num_workers - 1")
        return self
