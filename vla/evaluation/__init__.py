"""Measuring a policy: the loop of environment × policy, protocols, ablations, statistics and the page they end in."""
