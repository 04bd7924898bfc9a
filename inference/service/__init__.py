"""Wires the stages: one call (:mod:`.call`), all calls (:mod:`.watch`), and the doors to them. Start with ``call.py``."""
