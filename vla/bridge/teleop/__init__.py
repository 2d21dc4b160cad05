"""A human at the robot: devices that read a hand, the policy that follows it, and demonstrations made of it."""
