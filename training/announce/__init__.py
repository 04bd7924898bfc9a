"""The lines of ``configs/announcements`` as sounds that a subscriber can hear in a call.

sound      a spoken line -> beep, pause, voice at telephone band and level
command    ``scamtap-train announce``
"""
