"""The races that race.py runs."""
