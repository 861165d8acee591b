"""Sites that move in from another package, set up as docs/moving/ says. Each needs a process of its own."""
