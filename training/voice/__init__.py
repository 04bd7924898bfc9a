"""Call scripts -> two-leg telephone recordings with labels, by a synthesiser and a simulated line.

    voices      who may speak, and the voices reserved for the final test
    speaker     text -> 24 kHz speech (Kokoro-82M), remembered on disk
    espeak      the same by espeak-ng: cheap, and hard to understand
    channel     clean speech -> what a telephone line leaves of it
    recipe      everything drawn for a call, from one seed
    call        script + recipe -> recording and labels
    manifest    the file in git that recreates recordings kept out of it
    command     ``scamtap-train voice``

Synthetic speech is far cleaner than real calls: word error is several times lower than on real telephone recordings.
Any figure measured on it has to say so.
"""
