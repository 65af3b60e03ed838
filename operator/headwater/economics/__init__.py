"""What caching costs and what it saves: when a TTL, a warmer, padding, a design pays.

Pure: prices and minimums are model facts (`headwater.providers`), traffic is an argument. Money
is US dollars in `Decimal`, and nothing is rounded here. docs/economics.md derives the formulas.
"""
