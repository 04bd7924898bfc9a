"""The ways back to one ear, a client per gateway, each written from its published interface.

    http          what the REST clients share
    asterisk      ARI: a snoop channel that whispers
    freeswitch    event socket: uuid_displace, mixed
    jambonz       live call control: whisper
    twilio        conference participant: announcement
    sip           SIP MESSAGE to the subscriber's telephone
    sms           any SMS gateway that takes an HTTP POST
    open          which of them a configuration asks for

Tested against doubles that follow the published interfaces, not against the products. rtpengine's ear and SIPREC's INFO
are with their gateways.
"""
