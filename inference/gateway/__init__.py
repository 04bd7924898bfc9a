"""Ways in: how call audio reaches us."""
