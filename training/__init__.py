"""ScamTap's learning side: from call scripts and recordings to a promoted model version."""
