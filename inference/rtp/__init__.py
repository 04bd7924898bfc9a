"""From packets to legs: RTP, SRTP, codecs, and the packet plane that turns datagrams into aligned 8 kHz audio."""
