"""The localhost proxy in every consumer pod: the contract's bytes or nothing.

`exchange` decides about one request, `bundles` follows the mounted files, `pinning`, `continuity`,
`history` and `lanes` remember, `wishes` warms where the application asks, `metrics` counts; `desk`
puts decisions into the words of HTTP, `relay` carries them and `server` holds it all together.
Nothing here knows Kubernetes, and nothing is ever sent that was not verified against its digest.
"""
