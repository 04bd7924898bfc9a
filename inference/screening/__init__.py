"""Before a call rings: who calls, from where, how that number behaves, and what was heard of it before."""
