"""`make demo`: the product's story on a real control plane, played by real processes.

Nothing in here is part of the product. The demo starts what a user would start, types what a user
would type, and checks what it claims: its closing table is made of what was observed.
"""
