"""How a new version of a prefix comes into use, or does not.

Pure: `decide` takes what was declared, what was recorded, what was observed and the time, and
gives back what is to be recorded and routed. It asks nobody and waits for nothing, so that
every corner of a rollout is a row in a table test.
"""
