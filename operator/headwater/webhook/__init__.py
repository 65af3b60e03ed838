"""Admission: what may be declared as a prefix, and pods that take part without a change of theirs.

What decides is pure (`injection`, `validation`); `server` carries, and knows TLS. What these
webhooks need of the cluster is read, never written, but for Events.
"""
