"""Proofs around the sidecar: real clients on one side, the simulator on the other."""
