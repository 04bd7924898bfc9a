"""Makes tests/golden/rtp/*.bin: RTP and RTCP as bytes, valid and invalid, written by hand from RFC 3550, 3389 and 4733.

Not made with our own writer: else a mistake in it would be golden. Run it again after a change and look at the diff.
"""

from pathlib import Path

FOLDER = Path(__file__).parent / "rtp"

PACKETS = {
    "pcmu": "80 00 ffff 00000000 deadbeef" + "ff" * 160,
    "pcma_marker": "80 88 0001 ffffffa0 00000001" + "d5" * 160,
    "csrc_extension_padding": "b2 08 1234 01020304 0a0b0c0d 11111111 22222222 bede 0001 10aa0000 d5d5d5d5 00000004",
    "padding_with_content": "a0 00 0007 000000a0 0a0b0c0d ffff 63616e03",
    "empty_payload": "80 00 0000 00000000 00000000",
    "all_csrc": "8f 60 8000 80000000 ffffffff" + "".join(f"{i:08x}" for i in range(15)) + "00",
    "event_start": "80 e5 0010 00001000 0a0b0c0d 05 0a 00a0",
    "event_end": "80 65 0012 00001000 0a0b0c0d 0b 8a 0640",
    "event_reserved_bit": "80 65 0013 00001000 0a0b0c0d 0f 4a 0640",
    "comfort_noise": "80 0d 0020 00002000 0a0b0c0d 40 7f00",
    "rtcp_sr_sdes": "81 c8 000c 0a0b0c0d"
    + "11" * 20
    + "22" * 24
    + "81 ca 0003 0a0b0c0d 01 04 61407862 0000".replace(" ", ""),
    "rtcp_rr_bye": "80 c9 0001 0a0b0c0d 82 cb 0004 0a0b0c0d 0a0b0c0e 06 676f6e652e2e 00",
    "rtcp_app_padding": "a5 cc 0003 0a0b0c0d 73636d74 00000004",
    "rtcp_feedback": "81 cd 0003 0a0b0c0d 0a0b0c0e 00010000",
    "bad_empty": "",
    "bad_short": "80 00 0001 00000000 0000",
    "bad_version": "40 00 0001 00000000 00000000 ffff",
    "bad_csrc": "83 00 0001 00000000 00000000 11111111 22222222",
    "bad_extension_header": "90 00 0001 00000000 00000000 bede",
    "bad_extension_value": "90 00 0001 00000000 00000000 bede 0002 00000000",
    "bad_padding_zero": "a0 00 0001 00000000 00000000 ffff 00",
    "bad_padding_long": "a0 00 0001 00000000 00000000 ffff 04",
    "bad_padding_none": "a0 00 0001 00000000 00000001",
    "bad_rtcp_header": "80 c9",
    "bad_rtcp_length": "80 c8 0006 0a0b0c0d",
    "bad_rtcp_version": "00 c9 0001 0a0b0c0d",
    "bad_rtcp_type": "80 64 0001 0a0b0c0d",
    "bad_rtcp_sr": "81 c8 0006 0a0b0c0d" + "11" * 20,
    "bad_rtcp_bye_reason": "81 cb 0002 0a0b0c0d 09 676f6e",
    "bad_rtcp_sdes": "81 ca 0002 0a0b0c0d 01 09 6140",
    "bad_rtcp_padding_inside": "a0 c9 0001 00000004 80 c9 0001 0a0b0c0d",
    "bad_rtcp_padding_length": "a0 c9 0001 00000005",
}


def main() -> None:
    """Write every packet."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in PACKETS.items():
        (FOLDER / f"{name}.bin").write_bytes(bytes.fromhex(text))


if __name__ == "__main__":
    main()
