"""A real Kubernetes control plane on this machine, for tests, the demo and the benchmarks.

Nothing in here is part of the product.
"""
