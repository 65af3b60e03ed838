"""Looks for bytes that crash the sidecar or bring it off the contract: `make fuzz`.

`targets` says what must never happen, with no fuzzer in it, so that the tests run it, too;
`python -m fuzz` lets atheris, a coverage-guided fuzzer, look for it.
"""
