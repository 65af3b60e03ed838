"""What an application team imports: the contract in front of its own requests, in its process.

The same code as the sidecar's decides about revisions, bytes and refusals. Nothing here changes an
object of the caller's, and nothing of `anthropic` or pydantic is imported unless the caller
brings it.
"""
