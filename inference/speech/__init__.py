"""Speech segments in, words out: Whisper on telephone audio, batched across calls."""
