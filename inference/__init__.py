"""ScamTap's live side: from packet to warning. Never imports torch."""

__version__ = "0.1.0"
