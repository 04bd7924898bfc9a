"""Call scripts -> two-leg telephone recordings with labels, by a synthesiser and a simulated line.

    voices      who may speak, and the voices reserved for the final test
    speaker     text -> 24 kHz speech (Kokoro-82M), remembered on disk
    graph       Kokoro's graph rewritten to cost half, with editor, which looks up and replaces nodes
    espeak      the same by espeak-ng: cheap, and hard to understand
    channel     clean speech -> what a plain G.711 line leaves of it
    coding      through the codecs of a call, packets lost on the way
    sounds      music on hold, ringback, other people in the room
    line        noise, echo, pauses not sent, a chain of codecs, loss: a leg as it is today
    presets     lines by name: mobile, voip, noisy, hold; and fixed ones to compare
    recipe      everything drawn for a call, from one seed
    placing     when each turn and sound is heard
    call        script + recipe -> recording and labels
    manifest    the file in git that recreates recordings kept out of it
    batch       many calls, on one core or many
    command     ``scamtap-train voice``
    sheet       ``scamtap-train voice-sheet``: each preset to look at and listen to

Synthetic speech is far cleaner than real calls: word error is several times lower than on real telephone recordings.
Any figure measured on it has to say so.
"""
