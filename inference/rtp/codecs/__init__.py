"""Compressed speech to PCM at 8 kHz: payloads into frames, frames into samples, in processes of their own."""
