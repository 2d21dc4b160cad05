"""The core of Wayhand: contract, backbones, learning, evaluation and the robot bridge."""
