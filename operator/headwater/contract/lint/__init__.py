"""What is unwise about a contract, told before it costs anything.

Pure, as all of the ground floor. `contract/content.py` refuses what is no contract at all; here
stands what the provider would take and bill: text that differs each time it is rendered, bytes
that nobody sees, words that belong to one tenant. It never asks a model and never looks at a
clock, so that the same bytes have the same findings for ever.
"""

from headwater.contract.lint.findings import (
    IGNORE_ANNOTATION,
    Facts,
    Finding,
    Severity,
    Size,
    ignored,
)
from headwater.contract.lint.leaks import PatternError, check_patterns
from headwater.contract.lint.rules import IGNORABLE, RULES, TENANT_NAME, lint, refused

__all__ = [
    "IGNORABLE",
    "IGNORE_ANNOTATION",
    "RULES",
    "TENANT_NAME",
    "Facts",
    "Finding",
    "PatternError",
    "Severity",
    "Size",
    "check_patterns",
    "ignored",
    "lint",
    "refused",
]
