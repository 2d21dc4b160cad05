"""Robots behind `contract.Robot`; one file each."""
