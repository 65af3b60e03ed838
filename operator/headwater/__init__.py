"""Headwater makes a shared prompt prefix a contract: the same bytes for everyone, or nothing."""
