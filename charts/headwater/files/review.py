"""What `helm test` runs: asks the webhook as the API server does, by its Service's name and by TLS.

review.py HOST NAMESPACE AUTHORITIES
"""

import http.client
import json
import ssl
import sys

host, namespace, authorities = sys.argv[1:]
review = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {
        "uid": "helm-test",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "namespace": namespace,
        "dryRun": True,
        "object": {"metadata": {"name": "it"}, "spec": {"containers": [{"name": "it"}]}},
    },
}
trust = ssl.create_default_context(cafile=authorities)
connection = http.client.HTTPSConnection(host, timeout=10, context=trust)
connection.request("POST", "/inject", json.dumps(review), {"content-type": "application/json"})
said = connection.getresponse().read().decode()
if '"allowed":true' not in said:
    sys.exit(said)
