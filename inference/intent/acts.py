"""Acts of an utterance: what is done to the listener, which tells a scam from a genuine call on the same topic.

A real bank and a false one talk about the same account. What differs is what the other party asks for, how it answers
doubt, and what it offers of its own accord; and how the subscriber takes it.

Every act is its name and its definition, in one place: those who label calls and a language model that is asked about
one (:mod:`inference.opinion`) read the same words. The order is the models' own.
"""

SCAM_DEFINITIONS = {
    "move_money": "asks to pay, transfer, deposit or withdraw money in an ordinary way",
    "odd_payment": "asks to pay as nobody honest does: gift cards, crypto, cash to a courier, a 'safe' account",
    "credential": "asks for a code, password, PIN, card or account number, or an identity document",
    "remote_access": "asks to install something, share the screen, hand over the computer or telephone",
    "secrecy": "asks to tell nobody, stay on the line, lie to bank or family",
    "claims_authority": "claims power or proves itself: office, badge, case number, details known about the subscriber",
    "threat": "threatens harm or loss, or sets a clock",
    "gain": "offers something for nothing: prize, refund nobody asked for, sure profit, easy job",
    "deflects": "resists, deflects or punishes doubt and verification",
}
"""Of the far leg, for a scam."""

GENUINE_DEFINITIONS = {
    "offers_callback": "invites an independent call-back, or to look the number up",
    "warns_of_codes": "says that it never asks for codes, or not to share them",
    "accepts_refusal": "accepts no, doubt or delay, without pressure",
    "official_channel": "points to the official app, website, bill, letter, branch, counter",
    "refers_to_yours": "refers to something that the subscriber began: an order, booking, application, complaint",
    "asks_nothing": "says or shows that nothing is to be done, paid or told now",
}
"""Of the far leg, for a genuine call."""

SUBSCRIBER_DEFINITIONS = {
    "doubts": "asks who that is, how they know, whether it is a scam",
    "refuses": "will not do it, will call back, ends the call",
    "complies": "does as told: reads a code, agrees to pay, installs, promises silence",
    "began_it": "says that it was their own order, request, booking, call",
}
"""Of the near leg."""

SCAM_ACTS = tuple(SCAM_DEFINITIONS)
GENUINE_ACTS = tuple(GENUINE_DEFINITIONS)
SUBSCRIBER_ACTS = tuple(SUBSCRIBER_DEFINITIONS)
FAR_ACTS = SCAM_ACTS + GENUINE_ACTS
ACTS = FAR_ACTS + SUBSCRIBER_ACTS
