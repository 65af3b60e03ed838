"""Where evidence comes from: the counters of the sidecars, added up.

Nothing here judges. A source that is slow, gone or lying costs evidence, never a decision.
"""
