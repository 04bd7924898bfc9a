"""SIPREC (RFC 7865, 7866): a session border controller invites us as its recording server and forks a call's audio.

config      where we listen, who may call, whose numbers the subscribers have
body        an INVITE's parts: SDP, metadata
metadata    who sends which stream, complete and partial
roles       which participant is the subscriber we protect
offer       what an SDP offers of each stream, what we answer, where its packets come from
ear         the warning back to the SBC, as INFO in the recording session
recording   one recording session: a call begins, changes, ends
gateway     listeners, admission, all recordings
"""
