"""Where evidence comes from: the counters of sidecars, read from them or from a Prometheus.

Nothing here judges. A source that is slow, gone or lying costs evidence, never a decision.
"""
