"""The ground floor: what a contract is, to the byte.

Pure and without I/O: content in, canonical bytes and their digest out. It knows no Kubernetes,
no HTTP and no clock, so that every other part, and any other language, can agree with it.
"""
