"""Speed on the clock: a network, its paths, its routers and the engines of others, side by side."""
