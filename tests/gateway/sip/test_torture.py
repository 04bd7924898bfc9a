"""Messages with what RFC 4475 describes, in our own words: valid ones are taken, invalid ones get the right status."""

from pathlib import Path

import pytest

from inference.gateway.sip.agent import Agent
from inference.gateway.sip.application import AgentConfig, Answer
from inference.gateway.siprec.body import read_body

TORTURE = Path(__file__).parents[2] / "golden" / "sip" / "torture"

TAKEN = "wsinv esc01 escnull lwsdisp longreq dblreq semiuri transports baddn badbranch unksm2 zeromf inv2543 bare-lf"
DROPPED = "unreason noreason scalarlg bigcode bcast no-colon no-end not-sip"
REFUSED = {
    400: "badinv01 clerr ncl scalar02 quotbal ltgtruri lwsruri lwsstart trws escruri regbadct badaspec mismatch01"
    " mismatch02 insuf multi01 mcl01",
    405: "intmeth esc02",
    406: "sdp01",
    415: "invut",
    416: "unkscm novelsc",
    420: "bext01",
    505: "badvers",
}
EXPECTED = dict.fromkeys(TAKEN.split(), 200) | dict.fromkeys(DROPPED.split())
EXPECTED |= {name: status for status, names in REFUSED.items() for name in names.split()}


class Recorder:
    """Accepts every INVITE whose body it can read."""

    def admit(self, request, flow):
        return None

    def probed(self):
        return 200

    def invited(self, transaction):
        read_body(transaction.incoming.request)
        accepted = self.agent.prepare(transaction, self)
        self.agent.accept(accepted, transaction, Answer(b"v=0\r\n"))

    def changed(self, incoming):
        return Answer()

    def ended(self, why):
        return None


@pytest.mark.parametrize("path", sorted(TORTURE.glob("*.sip")), ids=lambda path: path.stem)
def test_torture(path, sip, clock):
    recorder = Recorder()
    recorder.agent = Agent(recorder, clock, AgentConfig(extensions=("siprec", "timer")))
    wire = sip.Wire()
    recorder.agent.receive(path.read_bytes(), wire)
    answers = wire.take()
    assert [answer.status for answer in answers] == [EXPECTED[path.stem]] * (EXPECTED[path.stem] is not None)
    for answer in answers:  # nothing of the request but what must be copied
        assert {name for name, _ in answer.headers.fields} <= {
            "Via", "From", "To", "Call-ID", "CSeq", "Contact", "Allow", "Accept", "Supported", "Unsupported", "Warning",
            "Content-Type", "Content-Length", "Session-Expires",
        }  # fmt: skip


def test_every_case_is_there():
    assert {path.stem for path in TORTURE.glob("*.sip")} == EXPECTED.keys()
    assert len(EXPECTED) >= 40
