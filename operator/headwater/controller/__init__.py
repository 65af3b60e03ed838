"""The operator: watches what was declared, and makes the cluster say the same.

kopf watches and puts keys into a work queue; a reconcile takes a key, reads, lets pure
functions decide, and carries the result out. It is level-triggered: whatever was missed is
found the next time, and doing it twice changes nothing.
"""

import headwater.cluster  # noqa: F401 - before kopf: what that imports of the client library waits
