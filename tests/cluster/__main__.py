"""`python -m tests.cluster`: a control plane to play with, until Ctrl-C or SIGTERM."""

import signal
import sys
import time

from tests.cluster.assets import AssetsError
from tests.cluster.control_plane import ControlPlane, ControlPlaneError


def main() -> None:
    """Start one, say how to use it, stay until told to go."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    with ControlPlane() as control_plane:
        # From here on a signal waits to be fetched, so that none gets lost before we listen.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        print(f"Kubernetes is ready at {control_plane.host} ({time.monotonic() - started:.1f} s)")
        print("In another terminal:")
        for name, value in control_plane.environment.items():
            print(f"  export {name}={value}")
        print(f"  alias kubectl={control_plane.kubectl_binary}")
        print("Ctrl-C ends it.", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    print("Gone.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted while starting; nothing is left behind")
    except (AssetsError, ControlPlaneError) as error:
        sys.exit(str(error))
