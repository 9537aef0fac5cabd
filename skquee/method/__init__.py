"""The parts of QuEE: error targets, gates, policies, and which answers are given."""
