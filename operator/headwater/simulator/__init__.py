"""An Anthropic-compatible server that models prompt caching: for demos, tests and users' CI.

It exists so that what caching does to a bill can be seen without a key, a network or a wait.
It never calls a provider, never answers from a model, and never keeps or prints a key.

`prompt` reads a request, `cache` decides what is read and written, both pure; `server`
carries. What is modelled, and from which page, stands in docs/simulator.md.
"""
