"""Screening over SIP: a redirect server (RFC 3261 section 8.3) that any proxy can ask, and that never holds a call.

config    settings
question  INVITE -> call attempt
reply     decision -> 302, 603, 607 or 608
server    sockets, and one answer for every question
"""
