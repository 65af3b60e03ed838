"""Keeps lanes warm: when a Job runs, what the Job is, what it does and what it reports.

`schedule`, `cronjob` and `report` are pure. `job` alone speaks to the provider, with the
credentials that were mounted into its pod. Nothing here speaks to Kubernetes.
"""
