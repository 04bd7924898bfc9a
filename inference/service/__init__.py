"""Wires the stages: one call (``call.py``, read it first), all calls (``watch.py``), and the doors to them."""
