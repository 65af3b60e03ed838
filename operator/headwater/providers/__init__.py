"""What differs by provider: model facts as dated data, usage read from answers, cost.

Pure: the sidecar imports this in every consumer pod, so it needs the standard library and
msgspec alone, and does no I/O but read the data file that is installed beside it.
"""
