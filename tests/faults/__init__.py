"""What breaks, done to real processes: `python -m pulltrace server` and `agent`, and what they talk to."""
