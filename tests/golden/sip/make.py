"""Writes the golden SIP messages beside it: ``python tests/golden/sip/make.py``. Texts and numbers are made up here.

``canonical/`` is what we write ourselves and must read back byte for byte. ``torture/`` has the faults and oddities
that RFC 4475 describes, each in a message of our own. ``metadata/`` has recording metadata in the shapes of four SBCs,
as their public documents describe them.
"""

from pathlib import Path

HERE = Path(__file__).parent

HEAD = {
    "Via": "SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKgold1",
    "From": "<sip:src@sbc.example>;tag=gold",
    "To": "<sip:srs@rec.example>",
    "Call-ID": "gold1@sbc.example",
    "CSeq": "1 INVITE",
    "Max-Forwards": "70",
    "Contact": "<sip:src@192.0.2.10:5060>",
}
SDP = "v=0\r\no=src 1 1 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0\r\n"
REC = "Require: siprec\r\nContent-Type: application/sdp"


def message(line="INVITE sip:srs@rec.example SIP/2.0", body="", extra="", length=None, end="\r\n", **fields) -> bytes:
    """A message; ``None`` leaves a header out, ``extra`` are raw lines."""
    lines = [line, *(f"{k}: {v}" for k, v in (HEAD | {k.replace("_", "-"): v for k, v in fields.items()}).items() if v)]
    lines += [extra] if extra else []
    lines += [f"Content-Length: {len(body.encode()) if length is None else length}"] if length != "" else []
    return (end.join(lines) + end + end).encode("utf-8", "surrogateescape") + body.encode("utf-8", "surrogateescape")


def options(**fields) -> bytes:
    """An OPTIONS."""
    return message(**{"line": "OPTIONS sip:srs@rec.example SIP/2.0", "CSeq": "1 OPTIONS"} | fields)


CANONICAL = {
    "invite": message(body=SDP, extra=REC),
    "options": options(),
    "bye": message("BYE sip:srs@192.0.2.1:5060 SIP/2.0", CSeq="2 BYE", To="<sip:srs@rec.example>;tag=ours"),
    "ringing": message("SIP/2.0 180 Ringing", Max_Forwards=None),
    "busy-no-reason": message("SIP/2.0 486 ", Max_Forwards=None),
    "utf8": message(From='"Анна 王" <sip:anna@sbc.example>;tag=gold'),
    "not-utf8": message(From='"\udcff\udcfe" <sip:anna@sbc.example>;tag=gold'),
}

LONG = "y" * 1200
TORTURE = {
    # 3.1.1: odd, and right.
    "wsinv": message(
        Via=None,
        From=None,
        To=None,
        CSeq=None,
        Max_Forwards=None,
        extra='TO :\r\n sip:srs@rec.example ;   lr  = one\r\nfrom   : "Quote \\"\\" inside" <sip:src@sbc.example>\r\n'
        "  ;\r\n  tag = gold\r\nMaX-fOrWaRdS: 0068\r\nCSeq: 0007\r\n  INVITE\r\ns :\r\nUnheard-Of:   any;;,,;=,\r\n"
        " text = at all\r\nv:  SIP  / 2.0  / TCP     192.0.2.12   ;\r\n  branch  =   z9hG4bKfirst  ,\r\n"
        " SIP  /    2.0   / UDP  10.1.2.3   ; branch=\r\n z9hG4bKsecond\r\nc:\r\n application/sdp",
        body=SDP,
    ),
    "intmeth": message(
        "Odd!'1*%_`+~.method SIP:odd*user_(is-it)~and$so,on/?;=&+:pw!@rec.example SIP/2.0",
        CSeq="1 Odd!'1*%_`+~.method",
        To='"bell \\\x07 null \\\x00 delete \\\x7f" <sip:1_odd.name~(so!sure)&isn\'t+it$/odd?,/;;*@rec.example>',
    ),
    "esc01": message("INVITE sip:s%72s@rec.example SIP/2.0", To="<sip:s%72s@rec.example>", extra=REC, body=SDP),
    "escnull": options(From="<sip:null-%00-null@sbc.example>;tag=gold"),
    "esc02": message("RE%47IST%45R sip:rec.example SIP/2.0", CSeq="1 RE%47IST%45R", To='"%Z%45" <sip:srs@rec.example>'),
    "lwsdisp": options(From="caller<sip:caller@sbc.example>;tag=gold"),
    "longreq": message(From=f'"{LONG}" <sip:{LONG}@sbc.example>;tag={LONG};{LONG}={LONG}', extra=REC, body=SDP),
    "dblreq": options() + options(CSeq="2 OPTIONS"),
    "semiuri": options(line="OPTIONS sip:srs;own=x%40y.example@rec.example SIP/2.0"),
    "transports": options(
        Via="SIP/2.0/UDP a.example;branch=z9hG4bK1, SIP/2.0/SCTP b.example;branch=z9hG4bK2,"
        " SIP/2.0/UNKNOWN c.example;branch=z9hG4bK3"
    ),
    "unreason": message("SIP/2.0 200 хорошо = 10**2 + 10**2; its ok?", Max_Forwards=None),
    "noreason": message("SIP/2.0 100 ", Max_Forwards=None),
    # 3.1.2: wrong.
    "badinv01": message(Via="SIP/2.0/UDP 192.0.2.15;;,;,,", Contact='"Joe" <sip:joe@sbc.example>;;;;'),
    "clerr": message(body=SDP, extra=REC, length=9999),
    "ncl": message(body=SDP, extra=REC, length=-999),
    "scalar02": message(CSeq="18446744073709551617 INVITE", Max_Forwards="300"),
    "scalarlg": message("SIP/2.0 503 Unavailable", CSeq="99999999999999999999999 OPTIONS", Max_Forwards=None),
    "quotbal": message(To='"Jane Doe, unclosed <sip:srs@rec.example>'),
    "ltgtruri": message("INVITE <sip:srs@rec.example> SIP/2.0"),
    "lwsruri": message("INVITE sip:srs@rec.example; lr SIP/2.0"),
    "lwsstart": message("INVITE  sip:srs@rec.example  SIP/2.0"),
    "trws": message("INVITE sip:srs@rec.example SIP/2.0  "),
    "escruri": message("INVITE sip:srs@rec.example?Route=%3Csip:else.example%3E SIP/2.0"),
    "regbadct": message(Contact=None, From="sip:src@sbc.example?Route=%3Csip:sip.example%3E;tag=gold"),
    "badaspec": message(To='"Doe, Jane" < sip:jane.doe@rec.example >'),
    "baddn": options(From="Doe, Jane <sip:jane.doe@sbc.example>;tag=j1"),
    "badvers": options(line="OPTIONS sip:srs@rec.example SIP/7.0"),
    "mismatch01": options(CSeq="8 INVITE"),
    "mismatch02": message("NEWMETHOD sip:srs@rec.example SIP/2.0", CSeq="8 INVITE"),
    "bigcode": message("SIP/2.0 4294967496 wraps to two hundred", Max_Forwards=None),
    # 3.2 and 3.3: what the transaction layer and the application see.
    "badbranch": options(Via="SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK"),
    "insuf": message(Max_Forwards=None, From=None, Call_ID=None),
    "unkscm": options(line="OPTIONS unheardof:thing(one) SIP/2.0"),
    "novelsc": options(line="OPTIONS http://192.0.2.103:3002 SIP/2.0"),
    "unksm2": options(To="isbn:1111111111", From="<http://www.sbc.example>;tag=gold"),
    "bext01": message(extra="Require: unheard-of, unheard-of-too\r\nContent-Type: application/sdp", body=SDP),
    "invut": message(extra="Require: siprec\r\nContent-Type: application/x-unheard-of", body="<audio/>"),
    "multi01": message(
        extra="Via: SIP/2.0/UDP 192.0.2.11;branch=z9hG4bKx\r\nFrom: sip:b@sbc.example;tag=2\r\n"
        "Call-ID: two@sbc.example\r\nCSeq: 8 INVITE"
    ),
    "mcl01": options(extra="Content-Length: 5", body="Which is it??"),
    "bcast": message(
        "SIP/2.0 200 OK",
        Via="SIP/2.0/UDP 192.0.2.198;branch=z9hG4bKours, SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKbroad",
    ),
    "zeromf": options(Max_Forwards="0"),
    "sdp01": message(extra="Require: siprec\r\nAccept: text/unheard-of\r\nContent-Type: application/sdp", body=SDP),
    "inv2543": message(Via="SIP/2.0/UDP 192.0.2.10:5060", Max_Forwards=None, extra=REC, length="", body=SDP),
    # Ours: what real streams bring.
    "bare-lf": message(extra="Require: siprec\nContent-Type: application/sdp", body=SDP, end="\n"),
    "no-colon": message(extra="a line without its name"),
    "no-end": message()[:-2],
    "not-sip": b"GET / HTTP/1.1\r\nHost: rec.example\r\n\r\n",
}


def recording(body: str, namespace="urn:ietf:params:xml:ns:recording:1") -> bytes:
    """A metadata document."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<recording xmlns="{namespace}">\n{body}</recording>\n'.encode()


METADATA = {
    # The Call-ID of the recorded call as sipSessionID; From first, To second.
    "opensips": recording(
        "<datamode>complete</datamode>\n"
        '<session session_id="k3BDxGRMTk2yn1mCgIrFSA=="><sipSessionID>7a3c21f0@proxy.example</sipSessionID></session>\n'
        '<participant participant_id="q1V0bgAASn6tVfkqN1L0Hg==" session_id="k3BDxGRMTk2yn1mCgIrFSA==">\n'
        '<nameID aor="sip:+15550100001@proxy.example"><name>Harbour Office</name></nameID></participant>\n'
        '<participant participant_id="nZ8KQwAAR3uPqWcZb0h1Xw==" session_id="k3BDxGRMTk2yn1mCgIrFSA==">\n'
        '<nameID aor="sip:+15550199002@proxy.example"></nameID></participant>\n'
        '<stream stream_id="A7mSzAAASUOLtIYOvZk2NA==" session_id="k3BDxGRMTk2yn1mCgIrFSA=="><label>1</label></stream>\n'
        '<stream stream_id="e5cYFAAATimYbWq8mK1u0A==" session_id="k3BDxGRMTk2yn1mCgIrFSA=="><label>2</label></stream>\n'
        '<sessionrecordingassoc session_id="k3BDxGRMTk2yn1mCgIrFSA==">'
        "<associate-time>2026-03-02T10:11:12</associate-time></sessionrecordingassoc>\n"
        '<participantsessionassoc participant_id="q1V0bgAASn6tVfkqN1L0Hg==" session_id="k3BDxGRMTk2yn1mCgIrFSA=="/>\n'
        '<participantsessionassoc participant_id="nZ8KQwAAR3uPqWcZb0h1Xw==" session_id="k3BDxGRMTk2yn1mCgIrFSA=="/>\n'
        '<participantstreamassoc participant_id="q1V0bgAASn6tVfkqN1L0Hg=="><send>A7mSzAAASUOLtIYOvZk2NA==</send>'
        "<recv>e5cYFAAATimYbWq8mK1u0A==</recv></participantstreamassoc>\n"
        '<participantstreamassoc participant_id="nZ8KQwAAR3uPqWcZb0h1Xw=="><send>e5cYFAAATimYbWq8mK1u0A==</send>'
        "<recv>A7mSzAAASUOLtIYOvZk2NA==</recv></participantstreamassoc>\n"
    ),
    # A draft's shape: plain id and session attributes, <send> inside the participant, extension data with the caller.
    "oracle": recording(
        "<dataMode>complete</dataMode>\n"
        '<session id="c2Vzc2lvbi1vLTAwMDAwMQ=="><associate-time>2026-03-02T10:11:12</associate-time>\n'
        '<extensiondata xmlns:apkt="http:/acmepacket.com/siprec/extensiondata"><apkt:ucid>00AB0077C0FFEE</apkt:ucid>'
        "</extensiondata></session>\n"
        '<participant id="cGFydC1vLTAwMDAwMDAwMg==" session="c2Vzc2lvbi1vLTAwMDAwMQ==">\n'
        '<nameID aor="sip:5550199002@198.51.100.7"><name>5550199002</name></nameID>\n'
        "<send>c3RyZWFtLW8tMDAwMDAwMg==</send><associate-time>2026-03-02T10:11:12</associate-time>\n"
        '<extensiondata xmlns:apkt="http:/acmepacket.com/siprec/extensiondata">'
        "<apkt:callingParty>false</apkt:callingParty><apkt:callerOrig>false</apkt:callerOrig></extensiondata></participant>\n"
        '<participant id="cGFydC1vLTAwMDAwMDAwMQ==" session="c2Vzc2lvbi1vLTAwMDAwMQ==">\n'
        '<nameID aor="sip:5550100001@198.51.100.8"><name>5550100001</name></nameID>\n'
        "<send>c3RyZWFtLW8tMDAwMDAwMQ==</send><associate-time>2026-03-02T10:11:12</associate-time>\n"
        '<extensiondata xmlns:apkt="http:/acmepacket.com/siprec/extensiondata"><apkt:callerOrig>true</apkt:callerOrig>'
        "</extensiondata></participant>\n"
        '<stream id="c3RyZWFtLW8tMDAwMDAwMg==" session="c2Vzc2lvbi1vLTAwMDAwMQ=="><mode>separate</mode>'
        "<label>16777219</label></stream>\n"
        '<stream id="c3RyZWFtLW8tMDAwMDAwMQ==" session="c2Vzc2lvbi1vLTAwMDAwMQ=="><mode>separate</mode>'
        "<label>16777220</label></stream>\n",
        "urn:ietf:params:xml:ns:recording",
    ),
    # Addresses without a scheme, a group, an Avaya UCID; streams named by number.
    "audiocodes": recording(
        '<datamode>complete</datamode>\n<group id="00000000-0000-0000-0000-0000515b11aa">'
        "<associate-time>2026-03-02T10:11:12Z</associate-time></group>\n"
        '<session id="0000-0000-0000-0000-000000003f2a07c1">\n'
        "<group-ref>00000000-0000-0000-0000-0000515b11aa</group-ref><start-time>2026-03-02T10:11:12Z</start-time>\n"
        '<ac:AvayaUCID xmlns:ac="http://ucid.example">AB0077C0FFEE00000017</ac:AvayaUCID></session>\n'
        '<participant id="5550100001" session="0000-0000-0000-0000-000000003f2a07c1">'
        '<nameID aor="5550100001@203.0.113.20"></nameID><associate-time>2026-03-02T10:11:12Z</associate-time>'
        "<send>00000000-0000-0000-0000-1CF23A5B0001</send><recv>00000000-0000-0000-0000-1CF23A5B0002</recv></participant>\n"
        '<participant id="5550199002" session="0000-0000-0000-0000-000000003f2a07c1">'
        '<nameID aor="5550199002@203.0.113.20"></nameID><associate-time>2026-03-02T10:11:12Z</associate-time>'
        "<send>00000000-0000-0000-0000-1CF23A5B0002</send><recv>00000000-0000-0000-0000-1CF23A5B0001</recv></participant>\n"
        '<stream id="00000000-0000-0000-0000-1CF23A5B0001" session="0000-0000-0000-0000-000000003f2a07c1">'
        "<label>1</label></stream>\n"
        '<stream id="00000000-0000-0000-0000-1CF23A5B0002" session="0000-0000-0000-0000-000000003f2a07c1">'
        "<label>2</label></stream>\n",
        "urn:ietf:params:xml:ns:recording",
    ),
    # RFC 7865, with a Session-ID (RFC 7989) of both sides; associations before the streams they name.
    "cube": recording(
        '<datamode>complete</datamode>\n<session session_id="uS5nFIQjEfGAOoMYkkbcgA==">\n'
        "<sipSessionID>4b2f9d6a77c05e1b8a3355d0e1f20c44;remote=90d1c2b3a4958677f0e1d2c3b4a59687</sipSessionID>\n"
        "<start-time>2026-03-02T10:11:12.101Z</start-time></session>\n"
        '<participantstreamassoc participant_id="uS5nFIQjEfGAOYMYkkbcgA=="><send>uS7eSoQjEfGAPIMYkkbcgA==</send>'
        "<recv>uS7eSoQjEfGAPYMYkkbcgA==</recv></participantstreamassoc>\n"
        '<participantstreamassoc participant_id="uS5nFIQjEfGAN4MYkkbcgA=="><send>uS7eSoQjEfGAPYMYkkbcgA==</send>'
        "<recv>uS7eSoQjEfGAPIMYkkbcgA==</recv></participantstreamassoc>\n"
        '<participant participant_id="uS5nFIQjEfGAN4MYkkbcgA=="><nameID aor="sip:+1-555-010-0001@10.20.30.40">'
        '<name xml:lang="en">Front Desk</name></nameID></participant>\n'
        '<participantsessionassoc participant_id="uS5nFIQjEfGAN4MYkkbcgA==" session_id="uS5nFIQjEfGAOoMYkkbcgA==">'
        "<associate-time>2026-03-02T10:11:12.101Z</associate-time></participantsessionassoc>\n"
        '<stream stream_id="uS7eSoQjEfGAPYMYkkbcgA==" session_id="uS5nFIQjEfGAOoMYkkbcgA=="><label>1</label></stream>\n'
        '<participant participant_id="uS5nFIQjEfGAOYMYkkbcgA=="><nameID aor="tel:+1-555-019-9002"/></participant>\n'
        '<stream stream_id="uS7eSoQjEfGAPIMYkkbcgA==" session_id="uS5nFIQjEfGAOoMYkkbcgA=="><label>2</label></stream>\n'
    ),
}


def main() -> None:
    """Write them all."""
    for folder, suffix, files in (
        ("canonical", "sip", CANONICAL),
        ("torture", "sip", TORTURE),
        ("metadata", "xml", METADATA),
    ):
        (HERE / folder).mkdir(exist_ok=True)
        for name, data in files.items():
            (HERE / folder / f"{name}.{suffix}").write_bytes(data)


if __name__ == "__main__":
    main()
