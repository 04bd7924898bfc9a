"""Evidence of single utterances accumulated over the call into a risk and a level."""
