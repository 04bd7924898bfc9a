"""From packets to legs: RTP and RTCP, G.711, and the packet plane that turns datagrams into aligned 8 kHz audio."""
