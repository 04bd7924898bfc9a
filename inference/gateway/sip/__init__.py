"""SIP (RFC 3261) as far as a server needs it that is called, answers, and hangs up.

Bottom up, each file knowing only those before it:

    syntax        header values: addresses, Via, CSeq, parameters, URIs
    message       requests and responses: bytes <-> objects, and the refusal of a request
    sdp           session descriptions (RFC 8866), and the keys in them (RFC 4568)
    framing       where messages end in a stream
    flow          how messages travel: UDP, TCP, TLS; bounds, slow peers cut off
    incoming      a request as a server takes it; its answers and where they go
    transaction   requests and answers, sent again until they arrive (section 17, RFC 6026)
    table         all of them, in bounded number
    dialog        what two sides agreed on (section 12), and how long it holds unrefreshed (RFC 4028)
    auth          digest (RFC 8760) without state for strangers
    application   what a server is for: sessions, bounds
    agent         the whole: requests in, checked in order of section 8.2, sessions, requests out

Why a layer of ours: of the two kept libraries, aiosipua 0.7 (alpha) has no TLS, no transaction that sends a refusal
again until its ACK, dialogs by Call-ID alone (a re-used Call-ID replaces a live call), no bound on connections, calls
or slow peers, a wall clock for timers, digest for clients only, and logs what could not be parsed. sippy 2.5 is a B2BUA
with an event loop of its own, no SIP over TLS and a web framework among its requirements. Both would have been patched
in exactly the parts that a recording server exposes to strangers.
"""
