"""From a policy's chunks to a robot's joints: clocks, chunking, safety, the deadline loop, robots."""
