"""A SIP call by SIPp, through the Kamailio of ``configs/deploy``, its media through rtpengine: heard, warned, ended."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from inference.alerts.ear import Announcement
from inference.alerts.tone import BEEP_HZ, warning_tone
from inference.config import PrivacyConfig, Settings
from inference.gateway.open import GatewaysConfig
from inference.gateway.rtpengine.config import RtpengineConfig
from inference.gateway.rtpengine.door import PATH
from inference.gateway.rtpengine.ear import PAD_SAMPLES
from inference.rtp.plane import PlaneConfig
from inference.service.api import ApiConfig
from inference.service.worker import Worker
from tests.peers import Peer, free_port, free_ports, started

pytestmark = [pytest.mark.gateway, pytest.mark.anyio]

HERE = Path(__file__).parent
CONFIG = Path(__file__).parents[3] / "configs" / "deploy" / "kamailio" / "kamailio.cfg"
TONE = warning_tone("danger")
NUM_MEDIA_PORTS = 20


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    if found is None and name == "baresip":
        pytest.skip("a real phone is not installed: apt-get install baresip-core")
    if found is None:
        pytest.fail(f"{name} is not installed: apt-get install kamailio kamailio-utils-modules sip-tester")
    return found


class Proxy:
    """Kamailio, and the subscribers' SIP port behind it."""

    def __init__(self, ng_port: int, folder: Path, **definitions: str) -> None:
        self.port, self.subscribers_port = free_port(), free_port()
        definitions |= {
            "LISTEN": f"udp:127.0.0.1:{self.port}",
            "RTPENGINE": f'"udp:127.0.0.1:{ng_port}"',
            "SUBSCRIBERS": f'"sip:127.0.0.1:{self.subscribers_port}"',
        }
        self._peer = Peer(
            [program("kamailio"), "-DD", "-E", "-m", "32", "-M", "4", "-f", CONFIG, "-Y", folder,
             *(part for name, value in definitions.items() for part in ("-A", f"{name}={value}"))],
            folder / "kamailio.log", self._answers,
        )  # fmt: skip
        self.close = self._peer.close

    def _answers(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(0.2)
            own = sock.getsockname()[1]
            request = (
                f"OPTIONS sip:ping@127.0.0.1:{self.port} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP 127.0.0.1:{own};branch=z9hG4bKp\r\n"
                f"From: <sip:p@127.0.0.1>;tag=p\r\nTo: <sip:p@127.0.0.1>\r\nCall-ID: p\r\nCSeq: 1 OPTIONS\r\n"
                "Max-Forwards: 9\r\nContent-Length: 0\r\n\r\n"
            )
            sock.sendto(request.encode(), ("127.0.0.1", self.port))
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                return sock.recv(4096).startswith(b"SIP/2.0 405")
        return False


@pytest.fixture
def proxy(daemon, tmp_path):
    with contextlib.closing(started(lambda: Proxy(daemon.ng_port, tmp_path))) as made:
        yield made


class Baresip:
    """A phone of others' making, for the subscriber: answers, and writes down what its loudspeaker gets."""

    def __init__(self, proxy: Proxy, folder: Path) -> None:
        self.folder = folder / "baresip"
        self.folder.mkdir()
        modules = Path("/usr/lib/baresip/modules")
        first = free_ports(NUM_MEDIA_PORTS)
        wanted = ["g711", "sndfile", "aubridge"]
        (self.folder / "config").write_text(
            f"sip_listen 127.0.0.1:{proxy.subscribers_port}\nrtp_ports {first}-{first + NUM_MEDIA_PORTS - 1}\n"
            f"module_path {modules}\n"
            "audio_player aubridge,x\naudio_source aubridge,x\naudio_alert aubridge,x\naudio_buffer 20-160\n"
            + "".join(f"module {name}.so\n" for name in wanted)
            + f"module_app account.so\nmodule_app menu.so\nsnd_path {self.folder}\n"
        )
        account = f"<sip:subscriber@127.0.0.1:{proxy.subscribers_port}>;regint=0;answermode=auto;audio_codecs=PCMU\n"
        (self.folder / "accounts").write_text(account)
        self.log = self.folder / "log"
        self._peer = Peer([program("baresip"), "-f", self.folder], self.log, self._is_ready)
        self.close = self._peer.close

    def _is_ready(self) -> bool:
        return self.log.exists() and "baresip is ready" in self.log.read_text(errors="replace")

    def heard(self) -> np.ndarray:
        """int16 ``[num_samples]`` at 8 kHz, once it has ended."""
        (path,) = self.folder.glob("dump-*-dec.wav")
        return soundfile.read(path, dtype="int16")[0]


class Phones:
    """Two phones by SIPp, or one by SIPp and baresip; RTP of SIPp's is :class:`Phone`'s."""

    def __init__(self, daemon, proxy: Proxy, phone, talk_ms: int, folder: Path, *, has_callee: bool = True) -> None:
        self.daemon = daemon
        self.caller, self.callee = phone(0xCA11E4), phone(0xCA11EE)
        common = ["-i", "127.0.0.1", "-m", "1", "-nostdin", "-timeout", "60", "-timeout_error"]
        media_ports = [str(free_ports(4)) for _ in range(2)]  # SIPp takes the one after the next as well
        callee = ["-sf", str(HERE / "uas.xml"), "-p", str(proxy.subscribers_port), "-mp", media_ports[0]]
        caller = ["-sf", str(HERE / "uac.xml"), "-p", str(free_port()), "-mp", media_ports[1], "-d", str(talk_ms)]
        self.sipps = [
            subprocess.Popen(
                [program("sipp"), f"127.0.0.1:{proxy.port}", *of, *common, "-key", "rtp_port", str(phone.port)],
                cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for of, phone in (((callee, self.callee),) if has_callee else ()) + ((caller, self.caller),)
        ]  # fmt: skip
        self._ports = {phone.port for phone in ((self.caller, self.callee) if has_callee else (self.caller,))}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()

    def answered(self) -> bool:
        """Whether media can flow; then it does."""
        for call_id in self.daemon.ng(command="list")["calls"]:
            tags = self.daemon.ng(command="query", call_id=call_id)["tags"].values()
            ports = {
                stream["endpoint"]["port"]: stream["local port"]
                for tag in tags
                for media in tag["medias"][:1]
                for stream in media["streams"][:1]
                if "port" in stream["endpoint"]
            }
            if self._ports <= set(ports):
                for phone in (self.caller, self.callee):
                    if phone.port in self._ports:
                        phone.to = ("127.0.0.1", ports[phone.port])
                return True
        return False

    def _talk(self) -> None:
        due_s = time.monotonic()
        while not self._over.is_set():
            for phone in (self.caller, self.callee):
                phone.send()
            due_s += 0.02
            while (left_s := due_s - time.monotonic()) > 0:
                time.sleep(min(left_s, 0.004))
                for phone in (self.caller, self.callee):
                    phone.receive()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        for phone in (self.caller, self.callee):
            phone.sock.close()
        for sipp in self.sipps:
            if sipp.poll() is None:
                sipp.kill()
            sipp.wait()


async def until(condition, timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def strength(samples, pitches_hz) -> float:
    """How much of one of these pitches there is."""
    time_s = np.arange(len(samples)) / 8000
    return max(abs(np.sum(samples * np.exp(-2j * np.pi * pitch_hz * time_s))) for pitch_hz in pitches_hz)


def hz(samples) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return round(float(np.fft.rfftfreq(len(samples), 1 / 8000)[power.argmax()]), -2)


async def test_a_sip_call_is_heard_warned_and_ended(daemon, proxy, phone, service, gateway, doubles, tmp_path):
    async with gateway(poll_s=0.2) as g:
        with contextlib.closing(Phones(daemon, proxy, phone, 5000, tmp_path)) as phones:
            await until(phones.answered)
            phones.caller.says, phones.callee.says = doubles.tone(700, 20), doubles.tone(400, 20)
            await until(lambda: service.specs)
            (name,) = service.specs
            await until(lambda: min(of.received for of in service.counters(name).values()) > 50)
            service.read(name)
            await asyncio.sleep(0.6)
            audio = service.read(name)
            assert (hz(audio["far"][0]), hz(audio["near"][0])) == (700, 400), "the caller is the far party"
            began_s = time.monotonic()
            await g.ear.play(service.specs[name].reach, Announcement("tone", "danger", "en", "", TONE))
            played_s = (len(TONE) + PAD_SAMPLES) / 8000
            await asyncio.sleep(played_s + 0.2)
            own = {phones.caller.ssrc, phones.callee.ssrc}
            warned = [p for p in phones.callee.since(began_s) if p.ssrc not in own]
            assert 0 <= len(warned) - played_s / 0.02 <= 2
            assert [p for p in phones.caller.got if p.ssrc not in own] == []
            assert service.ended == []
            await until(lambda: service.ended == [name])
            assert [sipp.wait(60) for sipp in phones.sipps] == [0, 0], "SIPp saw the call as it should be"
    assert daemon.ng(command="list")["calls"] == []


async def test_a_real_phone_plays_the_whole_warning(daemon, proxy, phone, service, gateway, doubles, tmp_path):
    """In the default mode. With the caller not held, baresip 1.0 changes streams 130 times and plays no tone at all."""
    with contextlib.closing(Baresip(proxy, tmp_path)) as baresip:
        async with gateway(poll_s=0.2) as g:
            with contextlib.closing(Phones(daemon, proxy, phone, 5000, tmp_path, has_callee=False)) as phones:
                await until(phones.answered)
                phones.caller.says = doubles.tone(400, 20) // 4
                await until(lambda: [call for one in g._followers for call in one.calls])
                (name,) = service.specs
                await asyncio.sleep(1)
                await g.ear.play(service.specs[name].reach, Announcement("tone", "danger", "en", "", TONE))
                await until(lambda: service.ended == [name])
    heard = baresip.heard().astype(float)
    frames = heard[: len(heard) // 160 * 160].reshape(-1, 160)
    loud = np.abs(frames).mean(axis=1) > 300
    is_beep = loud & np.array([strength(frame, BEEP_HZ) > 2 * strength(frame, (400,)) for frame in frames])
    tone = TONE[: len(TONE) // 160 * 160].reshape(-1, 160)
    assert is_beep.sum() >= 0.9 * (np.abs(tone).mean(axis=1) > 300).sum()


async def test_kamailio_tells_of_a_call_which_is_warned_and_of_its_end(daemon, phone, scripted, doubles, tmp_path):
    settings = Settings(
        privacy=PrivacyConfig(legal_basis="a test of our own software"),
        media=PlaneConfig(ports=(0,), max_legs=4),
        api=ApiConfig(port=0),
        segmenter=doubles.SEGMENTS,
        gateways=GatewaysConfig(rtpengine=RtpengineConfig(nodes=(daemon.node(),), discover=False)),
    )
    async with Worker(settings) as worker:
        door = "http://{}:{}".format(*worker.api_address) + PATH
        with (
            contextlib.closing(Proxy(daemon.ng_port, tmp_path, SCAMTAP=f'"{door}"')) as proxy,
            contextlib.closing(Phones(daemon, proxy, phone, 5000, tmp_path)) as phones,
        ):
            await until(lambda: worker.watch.call_ids)
            assert phones.answered()
            # A pause: while the first warning holds the caller, neither the subscriber nor ScamTap hears what is said.
            phones.caller.says = doubles.speech(doubles.THREAT, None, None, doubles.ASK)
            (name,) = worker.watch.call_ids
            await until(lambda: worker.watch.describe(name)["level"] == "danger")
            assert worker.watch.describe(name)["packets"]["near"]["received"] > 20
            own = {phones.caller.ssrc, phones.callee.ssrc}
            await until(lambda: any(packet.ssrc not in own for packet in phones.callee.got))
            assert not any(packet.ssrc not in own for packet in phones.caller.got)
            await until(lambda: not worker.watch.call_ids)
            await until(lambda: None not in [sipp.poll() for sipp in phones.sipps])
            assert [sipp.poll() for sipp in phones.sipps] == [0, 0]


def test_the_shipped_rtpengine_conf_is_read(tmp_path):
    def start():
        ports = {"listen-ng": free_port(), "listen-tcp-ng": free_port()}
        moved = [f"--{name}=127.0.0.1:{port}" for name, port in ports.items()]
        return Peer(
            [program("rtpengine"), f"--config-file={CONFIG.with_name('rtpengine.conf')}", *moved, "--foreground",
             "--log-stderr", "--log-level=3"],
            tmp_path / "rtpengine.log", lambda: pings(ports["listen-ng"]),
        )  # fmt: skip

    started(start).close()


def pings(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(1)
        with contextlib.suppress(OSError):
            sock.send(b"c1 d7:command4:pinge")
            return sock.recv(100) == b"c1 d6:result4:ponge"
    return False
