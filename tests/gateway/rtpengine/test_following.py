"""Calls on a real rtpengine: found, forked, changed, ended; restarts of either side."""

import asyncio

import numpy as np
import pytest

from inference.errors import CapacityError
from inference.gateway.ports import MediaPorts
from inference.gateway.rtpengine import follower as follower_module
from inference.gateway.rtpengine.described import Note, Roles
from inference.gateway.rtpengine.follower import id_of
from inference.gateway.rtpengine.subscription import Wanted

pytestmark = [pytest.mark.gateway, pytest.mark.anyio]

NAME = id_of("c1")


async def until(condition, timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def hz(samples) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / 8000)[power.argmax()])


async def heard(service, name, seconds):
    """Audio of both legs for so long: ``{leg: (samples, present)}``."""
    service.read(name)
    parts = {"far": [], "near": []}
    for _ in range(round(seconds / 0.1)):
        await asyncio.sleep(0.1)
        for leg, part in service.read(name).items():
            parts[leg].append(part)
    return {leg: tuple(np.concatenate(of) for of in zip(*part, strict=True)) for leg, part in parts.items()}


@pytest.mark.parametrize("payload_type", [0, 8])
@pytest.mark.parametrize("node", [{}, {"encoding": "json"}, {"transport": "tcp"}])
async def test_both_legs_are_heard_by_their_roles(daemon, call, service, gateway, doubles, payload_type, node):
    c1 = call(payload_type=payload_type)
    c1.caller.says, c1.callee.says = doubles.tone(700, 20), doubles.tone(400, 20)
    async with gateway(nodes=(daemon.node(**node),)):
        await until(lambda: NAME in service.specs)
        spec = service.specs[NAME]
        assert spec.reach.via == "rtpengine"
        assert spec.reach.ear.get_secret_value() == "tag-callee"
        assert spec.far.local_port == spec.near.local_port, "both legs on one port"
        got = await heard(service, NAME, 0.5)
        assert (round(hz(got["far"][0]), -2), round(hz(got["near"][0]), -2)) == (700, 400)
        counters = service.counters(NAME)
        assert all(of.unknown_payload == 0 and of.received > 15 for of in counters.values())


async def test_a_call_that_dialled_out_has_its_roles_the_other_way(call, service, gateway, doubles):
    c1 = call(labels=("near", "far"))
    c1.caller.says, c1.callee.says = doubles.tone(700, 20), doubles.tone(400, 20)
    async with gateway():
        await until(lambda: NAME in service.specs)
        got = await heard(service, NAME, 0.5)
    assert (round(hz(got["far"][0]), -2), round(hz(got["near"][0]), -2)) == (400, 700)


@pytest.mark.parametrize("labels", [("far", None), (None, "near")])
async def test_one_label_of_two_suffices(call, service, gateway, labels):
    call(labels=labels)
    async with gateway():
        await until(lambda: NAME in service.specs)
        assert service.specs[NAME].reach.ear.get_secret_value() == "tag-callee"


async def test_calls_without_labels_are_left_alone(call, daemon, service, gateway):
    call("not-ours", labels=(None, None))
    async with gateway():
        call()
        await until(lambda: NAME in service.specs)
        assert list(service.specs) == [NAME]
        assert set(daemon.ng(command="query", call_id="not-ours")["tags"]) == {"tag-caller", "tag-callee"}


async def test_a_call_that_rings_is_followed_once_it_is_answered(daemon, service, gateway, call):
    caller = call("another").caller
    async with gateway():
        daemon.ng(command="offer", call_id="c1", from_tag="A", sdp=caller.sdp(), ICE="remove", label="far")
        await asyncio.sleep(0.2)
        assert NAME not in service.specs
        daemon.ng(command="answer", call_id="c1", from_tag="A", to_tag="B", sdp=caller.sdp(), ICE="remove")
        await until(lambda: NAME in service.specs)


async def test_the_phone_that_answers_is_near_when_several_ring(daemon, service, gateway, call):
    sdp = call("another").caller.sdp()
    daemon.ng(command="offer", call_id="c1", from_tag="A", sdp=sdp, ICE="remove", label="far")
    for tag in ("B1", "B2", "B1"):  # early media of both; the first one picks up
        daemon.ng(command="answer", call_id="c1", from_tag="A", to_tag=tag, sdp=sdp, ICE="remove", label="near")
    async with gateway():
        await until(lambda: NAME in service.specs)
        assert service.specs[NAME].reach.ear.get_secret_value() == "B1"


async def test_the_end_is_noticed(call, service, gateway):
    c1 = call()
    async with gateway():
        await until(lambda: NAME in service.specs)
        c1.hang_up()
        await until(lambda: service.ended == [NAME])
        assert service.plane.plane_counters().legs == 0


async def test_a_codec_changed_without_notice_is_heard(call, service, gateway, doubles):
    c1 = call()
    async with gateway():
        await until(lambda: NAME in service.specs)
        for phone in (c1.caller, c1.callee):
            phone.payload_type = 8
        c1.signal()
        c1.caller.says, c1.callee.says = doubles.tone(700, 20), doubles.tone(400, 20)
        await asyncio.sleep(0.3)
        got = await heard(service, NAME, 0.5)
        assert (round(hz(got["far"][0]), -2), round(hz(got["near"][0]), -2)) == (700, 400)
        assert service.ended == []
        assert {of.ssrc_changes for of in service.counters(NAME).values()} == {0}


async def test_a_costly_codec_comes_transcoded(call, service, gateway):
    c1 = call(payload_type=9)
    async with gateway():
        await until(lambda: NAME in service.specs)
        await until(lambda: min(of.received for of in service.counters(NAME).values()) > 10)
        counters = service.counters(NAME)
        assert {of.unknown_payload for of in counters.values()} == {0}
        assert "G722" not in service.specs[NAME].far.payload_types.values()
        # The call itself stays as it was.
        assert {packet.payload_type for packet in (*c1.caller.got, *c1.callee.got)} == {9}


async def test_a_costly_codec_that_is_decoded_here_comes_as_it_is(call, service, gateway):
    call(payload_type=9)
    async with gateway(native_codecs=("PCMU", "PCMA", "G722")):
        service.begin = lambda spec: service.specs.update({spec.id: spec})  # the plane itself does not decode it
        await until(lambda: NAME in service.specs)
        assert service.specs[NAME].far.payload_types[9] == "G722"
        service.end = lambda name: asyncio.sleep(0)


async def test_a_change_to_a_costly_codec_is_forked_anew(call, service, gateway):
    c1 = call()
    async with gateway():
        await until(lambda: NAME in service.specs)
        for phone in (c1.caller, c1.callee):
            phone.payload_type = 9
        c1.signal()
        await asyncio.sleep(0.5)
        before = {leg: (of.received, of.unknown_payload) for leg, of in service.counters(NAME).items()}
        await asyncio.sleep(0.4)
        after = {leg: (of.received, of.unknown_payload) for leg, of in service.counters(NAME).items()}
    for leg in ("far", "near"):
        assert after[leg][0] - before[leg][0] > 10
        assert after[leg][1] == before[leg][1], "PCMA since"


async def test_after_our_crash_the_calls_are_found_again(call, service, gateway):
    """Nothing is told to rtpengine: as if the process had been killed. The call keeps its name and roles."""
    call("dialled", labels=(None, None))
    call()
    async with gateway() as first:
        await until(lambda: NAME in service.specs)
        follower, state = await first.locate("dialled", None)
        note = Note("op-17", Roles("tag-caller", "tag-callee"), "zh")
        await follower.follow(Wanted(follower.node, "dialled", note), state)
        for task in first._running:
            task.cancel()
        for name in list(service.specs):
            service.drop(name)
        async with gateway():
            await until(lambda: {NAME, "op-17"} <= set(service.specs))
            assert service.specs["op-17"].language == "zh"
            await until(lambda: min(of.received for of in service.counters("op-17").values()) > 5)
            # The old fork was replaced, not joined: every packet comes once.
            assert {of.duplicate for of in service.counters("op-17").values()} == {0}
        first._followers[0].calls.clear()


async def test_a_lost_subscription_is_made_again(call, daemon, service, gateway):
    call()
    async with gateway() as g:
        await until(lambda: g.find("c1"))
        daemon.ng(command="unsubscribe", call_id="c1", to_tag=g.find("c1").tag)
        await asyncio.sleep(0.3)
        before = service.counters(NAME)["far"].received
        await until(lambda: service.counters(NAME)["far"].received > before + 10)


async def test_rtpengine_restarts(call, daemon, service, gateway):
    c1 = call()
    async with gateway() as g:
        await until(lambda: g.find("c1"))
        daemon.stop()
        await asyncio.sleep(0.7)
        assert service.ended == [], "an unreachable node says nothing of its calls"
        daemon.start()
        await until(lambda: service.ended == [NAME])
        c1.caller.to = None
        c1.signal()  # a re-INVITE brings the call back
        await until(lambda: NAME in service.specs)
        await until(lambda: min(of.received for of in service.counters(NAME).values()) > 5)


async def test_closing_stops_the_forks_and_leaves_the_calls(call, daemon, service, gateway):
    c1 = call()
    async with gateway() as g:
        await until(lambda: g.find("c1"))
        tag = g.find("c1").tag
    assert service.ended == [NAME]
    state = daemon.ng(command="query", call_id="c1")["tags"]
    assert state[tag]["subscriptions"] == []
    received = len(c1.callee.got)
    await asyncio.sleep(0.3)
    assert len(c1.callee.got) - received > 10


async def test_a_call_that_the_service_ended_is_not_taken_up_again(call, daemon, service, gateway):
    call()
    async with gateway() as g:
        await until(lambda: g.find("c1"))
        tag = g.find("c1").tag
        service.drop(NAME)
        await until(lambda: not daemon.ng(command="query", call_id="c1")["tags"][tag]["subscriptions"])
        await asyncio.sleep(0.2)
        assert NAME not in service.specs


async def test_a_caller_who_takes_our_tag_gains_nothing(daemon, service, gateway, call):
    sdp = call("another").caller.sdp()
    daemon.ng(command="offer", call_id="c1", from_tag="scamtap-1", sdp=sdp, ICE="remove", label="far")
    daemon.ng(command="answer", call_id="c1", from_tag="scamtap-1", to_tag="B", sdp=sdp, ICE="remove")
    async with gateway() as g:
        await until(lambda: g.find("c1"))
        assert g.find("c1").tag != "scamtap-1"
        tags = daemon.ng(command="query", call_id="c1")["tags"]
        assert {"tag": "B", "type": "offer/answer"} in tags["scamtap-1"]["subscriptions"]


async def test_encrypted_forks_come_with_their_keys(call, service, gateway):
    pylibsrtp = pytest.importorskip("pylibsrtp")
    import base64
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(30)
        call()
        service.begin = lambda spec: service.specs.update({spec.id: spec})
        service.end = lambda name: asyncio.sleep(0)
        async with gateway(srtp=True, ports=MediaPorts("127.0.0.1", [sock.getsockname()[1]], None, 0)):
            await until(lambda: NAME in service.specs)
            spec = service.specs[NAME]
            by_source = {leg.source_address[1]: leg.srtp for leg in (spec.far, spec.near)}
            sessions = {
                port: pylibsrtp.Session(
                    pylibsrtp.Policy(
                        key=base64.b64decode(srtp.key.get_secret_value()),
                        ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND,
                    )
                )
                for port, srtp in by_source.items()
            }
            seen = set()
            for _ in range(20):
                data, source = sock.recvfrom(2048)
                if not 192 <= data[1] <= 223:
                    assert len(sessions[source[1]].unprotect(data)) == 172
                    seen.add(source[1])
            assert seen == set(by_source)


async def test_a_node_behind_nat_gets_a_port_for_each_leg(call, daemon, gateway, service, doubles):
    from inference.rtp.plane import PacketPlane, PlaneConfig

    with PacketPlane(PlaneConfig(ports=(0, 0, 0), max_legs=8)) as plane:
        service.plane = plane
        first, second, _ = sorted(plane.ports)
        ports = MediaPorts("127.0.0.1", plane.ports, None, 0)
        ports._resting.extend((port, -1.0) for port in (first, second))
        c1 = call()
        c1.caller.says, c1.callee.says = doubles.tone(700, 20), doubles.tone(400, 20)
        async with gateway(latch=True, ports=ports):
            await until(lambda: NAME in service.specs)
            spec = service.specs[NAME]
            assert (spec.far.source, spec.near.source) == (None, None)
            assert {spec.far.local_port, spec.near.local_port} == {first, second}
            got = await heard(service, NAME, 0.5)
            assert (round(hz(got["far"][0]), -2), round(hz(got["near"][0]), -2)) == (700, 400)
            c1.hang_up()
            await until(lambda: service.ended == [NAME])
        assert ports.num_leased == 0


@pytest.fixture
def quiet_calls(daemon, phone):
    """``quiet_calls(n)``: so many calls without media; ``quiet_calls.end(call_id)``."""

    class Quiet:
        def __init__(self) -> None:
            of_one = phone(1)
            self.sdp = of_one.sdp()
            of_one.sock.close()

        def __call__(self, num: int, prefix: str = "q") -> list[str]:
            call_ids = [f"{prefix}{number}" for number in range(num)]
            for call_id in call_ids:
                fields = {"call_id": call_id, "from_tag": "A", "sdp": self.sdp, "ICE": "remove"}
                daemon.ng(command="offer", label="far", **fields)
                daemon.ng(command="answer", to_tag="B", **fields)
            return call_ids

        def end(self, call_id: str) -> None:
            daemon.ng(command="delete", call_id=call_id, delete_delay=0)

    return Quiet()


async def test_calls_come_and_go_and_leave_nothing(quiet_calls, service, gateway):
    async with gateway() as g:
        for number in range(8):
            call_ids = quiet_calls(12, f"round{number}-")
            await until(lambda ids=call_ids: all(g.find(call_id) for call_id in ids))
            for call_id in call_ids:
                quiet_calls.end(call_id)
            await until(lambda: not service.specs)
        (one,) = g._followers
        await until(lambda: not one._ending)
        assert (one.calls, one._locks, one._checked_s, one._next_try_s, one._left_alone) == ({}, {}, {}, {}, set())
        assert one.node._pending == {}
    assert len(service.ended) == 96
    assert service.plane.plane_counters().legs == 0


async def test_two_workers_share_the_calls(quiet_calls, service, gateway):
    call_ids = quiet_calls(12)
    async with gateway(num_workers=2, worker=0) as first, gateway(num_workers=2, worker=1) as second:
        await until(lambda: len(service.specs) == 12)
        await asyncio.sleep(0.2)
        took = [{call_id for call_id in call_ids if g.find(call_id)} for g in (first, second)]
        assert took[0] | took[1] == set(call_ids)
        assert not took[0] & took[1]
        assert min(map(len, took)) > 0


async def test_more_calls_than_are_listed(quiet_calls, service, gateway):
    call_ids = quiet_calls(12)
    async with gateway(max_listed=5) as g:
        await until(lambda: len(service.specs) == 5)
        await asyncio.sleep(0.3)
        assert service.ended == [], "that a call is not in a list that was cut says nothing"
        followed = next(call_id for call_id in call_ids if g.find(call_id))
        quiet_calls.end(followed)
        await until(lambda: service.ended == [id_of(followed)])


async def test_a_full_service_takes_the_call_later(call, service, gateway, monkeypatch):
    monkeypatch.setattr(follower_module, "RETRY_S", 0.1)
    service.failure = CapacityError("no room")
    call()
    async with gateway():
        await asyncio.sleep(0.3)
        assert service.specs == {}
        service.failure = None
        await until(lambda: NAME in service.specs)


async def test_a_mistake_of_ours_ends_nothing(call, service, gateway, monkeypatch):
    async with gateway() as g:
        (one,) = g._followers
        monkeypatch.setattr(one, "poll", lambda: 1 / 0)
        await asyncio.sleep(0.2)
        monkeypatch.undo()
        call()
        await until(lambda: NAME in service.specs)
