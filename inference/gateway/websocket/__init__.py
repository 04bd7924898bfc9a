"""Calls over WebSockets: one server, and a dialect for each kind of gateway that speaks to it.

A dialect's file holds a parser, from one message to a typed one, and a session, from typed messages to a call. Twilio,
Telnyx and SignalWire are ``media_streams``, jambonz and FreeSWITCH ``fork``, Asterisk ``asterisk``, our own ``duplex``.
"""
