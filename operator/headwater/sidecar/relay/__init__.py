"""Carries HTTP/1.1 between applications and one provider; it decides nothing.

`plan` says what it is told and what it tells, `downstream` speaks to applications, `upstream` to
the provider, `carriage` is one request between the two, `origin` where the provider is, `body`
holds what has to be held. All parsing of HTTP is llhttp's; what is malformed or ambiguous is
refused, never repaired. No bytes are kept that are not needed, and no request is sent twice
unless it is certain that nothing of it was received.
"""
