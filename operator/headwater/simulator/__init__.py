"""An Anthropic-compatible server whose prompt caching behaves as the provider's does.

For demos, tests and the CI of users: it costs nothing, needs no key, and its clock can be moved.
What it models and where that was read stands in docs/simulator.md. It never stands in for the
provider in production, and it keeps no key, only a hash of it.
"""
